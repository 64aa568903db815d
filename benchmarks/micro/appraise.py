"""What an appraisal costs, part by part, in one process and on one core: `make bench-appraise`.

Real quotes where the corpus is present (`tests/fakes/corpus.py` finds it), and the simulator's, which need nothing.
Times are CPU time of this thread, so a busy machine disturbs them little; parts are the best of several runs that take
turns. Every table is in the same process as the raw ECDSA verification it is compared with. The figures also go to
`benchmarks/results/appraise.json`.
"""

from __future__ import annotations

import json
import platform as machine
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dcap_qvl  # type: ignore[import-untyped]  # it ships stubs, but no py.typed
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from rich.console import Console
from rich.table import Table

from cloister.appraisal import second, verify
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Evidence, Expected, appraise, verify_binding
from cloister.appraisal.body import TdReport
from cloister.appraisal.chains import VerifiedChains
from cloister.appraisal.collateral import Collateral, VerifiedCollateral
from cloister.appraisal.policy import Policy
from cloister.appraisal.quote import parse_quote
from cloister.appraisal.tcb import tcb_level

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from fakes import corpus  # noqa: E402 - the fakes lie beside the tests
from fakes.sim import SampleEvidence, good_evidence  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results" / "appraise.json"
RUNS, TURNS, APPRAISALS = 7, 40, 2000
TARGET_PER_S = 700

Parts = dict[str, float]


@dataclass(frozen=True)
class Case:
    """One genuine quote that the default policy accepts, with what it is judged by."""

    name: str
    raw_quote: bytes
    raw_collateral: bytes
    anchor: TrustAnchor
    now: datetime

    def endorsed(self) -> VerifiedCollateral:
        """The collateral, parsed and verified anew: it knows no chain."""
        return Collateral.parse(self.raw_collateral).verified(self.anchor, self.now)


def cases() -> list[Case]:
    """The simulator's quote, and of the corpus the first accepted one of each kind."""
    sim = good_evidence()
    anchor = TrustAnchor("simulated", sim.root_der)
    found = {"simulated": Case("SGX v3, simulated", sim.quote, sim.collateral, anchor, datetime.now(UTC))}
    for one in corpus.evaluations():
        if one.expected.accepted:
            raw = one.quote.read_bytes()
            quote = parse_quote(raw)
            kind = f"TDX v{quote.version}" if isinstance(quote.body, TdReport) else "SGX v3"
            found.setdefault(kind, Case(kind, raw, one.collateral.read_bytes(), one.anchor(), one.now))
    return list(found.values())


def raw_verification() -> Callable[[], object]:
    """One verification of ECDSA P-256 over a message as long as an SGX report, and nothing around it."""
    key, message = ec.generate_private_key(ec.SECP256R1()), bytes(432)
    signature, public = key.sign(message, ec.ECDSA(SHA256())), key.public_key()
    return lambda: public.verify(signature, message, ec.ECDSA(SHA256()))


def parts(case: Case, sample: SampleEvidence) -> dict[str, Callable[[], object]]:
    """Each part of an appraisal of this quote, as something to call again and again."""
    endorsed, policy = case.endorsed(), Policy.default()
    verified = verify.verify_quote(case.raw_quote, endorsed, case.anchor, case.now)
    quote = verified.quote
    pck = verify.verify_chain(quote, endorsed, case.now).pck
    report = quote.body if isinstance(quote.body, TdReport) else None
    standing = verify.verify_quoting_enclave(quote, pck, endorsed.qe_identity)
    sampled, expect = parse_quote(sample.quote), Expected(nonce=sample.claims.nonce)

    def new_chain() -> None:
        object.__setattr__(endorsed, "chains", VerifiedChains())
        verify.verify_chain(quote, endorsed, case.now)

    return {
        "collateral, parsed and verified (once per issue)": case.endorsed,
        "PCK chain, first quote of a platform": new_chain,
        "parse": lambda: parse_quote(case.raw_quote),
        "PCK chain, known": lambda: verify.verify_chain(quote, endorsed, case.now),
        "quoting enclave": lambda: verify.verify_quoting_enclave(quote, pck, endorsed.qe_identity),
        "signature": lambda: verify.verify_signature(quote),
        "binding": lambda: verify_binding(sampled, sample.claims_bytes, expect),
        "TCB": lambda: tcb_level(verified.platform, report, standing, endorsed.tcb_info),
        "policy": lambda: policy.evaluate(verified, case.now),
        "dcap-qvl": lambda: second.confirm(verified, case.now),
    }


def full(case: Case, sample: SampleEvidence) -> Callable[[], object]:
    """A full appraisal with both verifiers, collateral and chain known.

    A real quote is over claims of others, so the binding is that of the simulated sample: as much work, the same code.
    """
    endorsed, policy = case.endorsed(), Policy.default()
    if case.raw_quote == sample.quote:
        evidence = Evidence(raw_quote=sample.quote, claims_bytes=sample.claims_bytes)
        expect = Expected(nonce=sample.claims.nonce)
        return lambda: appraise(evidence, endorsed, policy, case.anchor, case.now, expect=expect)
    sampled, expect = parse_quote(sample.quote), Expected(nonce=sample.claims.nonce)

    def act() -> None:
        verified = verify.verify_quote(case.raw_quote, endorsed, case.anchor, case.now)
        verify_binding(sampled, sample.claims_bytes, expect)
        policy.evaluate(verified, case.now)
        second.confirm(verified, case.now)

    return act


def each(works: dict[str, Callable[[], object]]) -> Parts:
    """CPU seconds for one turn of each, the best of `RUNS` that take turns."""
    best: Parts = {}
    for _ in range(RUNS):
        for name, work in works.items():
            began = time.thread_time()
            for _ in range(TURNS):
                work()
            best[name] = min(best.get(name, 1e9), (time.thread_time() - began) / TURNS)
    return best


def spread(work: Callable[[], object]) -> dict[str, float]:
    """Full appraisals one after the other: how many a second of CPU, and the CPU time of the middle and the 99th."""
    work()
    times = []
    for _ in range(APPRAISALS):
        began = time.thread_time_ns()
        work()
        times.append((time.thread_time_ns() - began) / 1e9)
    cuts = statistics.quantiles(times, n=100)
    return {"per_core_s": len(times) / sum(times), "p50_s": cuts[49], "p99_s": cuts[98]}


def measured() -> dict[str, dict[str, float]]:
    """Every case: its parts, its full appraisals, and the raw verification of the same minutes."""
    found: dict[str, dict[str, float]] = {}
    for case in cases():
        sample = good_evidence()
        if case.name.endswith("simulated"):
            case = Case(case.name, sample.quote, sample.collateral, TrustAnchor("simulated", sample.root_der), case.now)
        works = parts(case, sample) | {"one raw ECDSA P-256 verification": raw_verification()}
        found[case.name] = each(works) | spread(full(case, sample))
    return found


def table(found: dict[str, dict[str, float]]) -> Table:
    """Microseconds by part and kind, then what they add up to."""
    shown = Table("CPU time on one core", *found, title="µs, both verifiers, collateral and platform known")
    rows = [name for name in next(iter(found.values())) if name not in ("per_core_s", "p50_s", "p99_s")]
    for name in rows:
        shown.add_row(name, *(f"{one[name] * 1e6:.0f}" for one in found.values()))
    shown.add_section()
    raw = rows[-1]
    kinds = found.values()
    shown.add_row("full appraisal, p50", *(f"{one['p50_s'] * 1e6:.0f}" for one in kinds))
    shown.add_row("full appraisal, p99", *(f"{one['p99_s'] * 1e6:.0f}" for one in kinds))
    shown.add_row("p50 in raw verifications", *(f"{one['p50_s'] / one[raw]:.1f}" for one in kinds))
    shown.add_row("  without dcap-qvl's", *(f"{(one['p50_s'] - one['dcap-qvl']) / one[raw]:.1f}" for one in kinds))
    shown.add_row("full appraisals per second per core", *(f"{one['per_core_s']:.0f}" for one in kinds))
    return shown


def main() -> None:
    """Measure, print, and keep."""
    console = Console()
    if not corpus.present():
        console.print("The quote corpus is absent: simulated quotes only, no TDX.")
    found = measured()
    console.print(table(found))
    slowest = min(one["per_core_s"] for one in found.values())
    console.print(f"slowest kind: {slowest:.0f} per second per core; the target is {TARGET_PER_S}")
    RESULTS.parent.mkdir(exist_ok=True)
    about = {"python": machine.python_version(), "cpu": machine.processor(), "dcap_qvl": dcap_qvl.__version__}
    RESULTS.write_text(json.dumps({"about": about, "seconds": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
