"""`cloister trust pin`: from an address, and a measurement or a fingerprint, to a trust bundle."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.options import AsJson, Timeout, check_place, examples, hex_32, root_der
from cloister.cli.output import alarm, facts, print_json, say, warn
from cloister.cli.trusted import WEAK, read_bundle, write_bundle
from cloister.client import (
    AttestedPin,
    TrustBundle,
    anchor_of,
    pin_by_evidence,
    pin_by_fingerprint,
    read_policy,
    renewed,
    root_fingerprints,
)
from cloister.errors import EvidenceRejected, InvalidRequest, NotReady, Unavailable

SIMULATED: Final = (
    "The root named with --anchor-root is not Intel's: this evidence is simulated, and proves nothing about hardware."
)
NO_ENCLAVE: Final = "enclave.absent"

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the verifier must be, and what the bundle shall name besides."""

    address: str
    mrenclave: frozenset[str]
    policy: Path | None
    anchor_root: Path | None
    fingerprints: frozenset[str]
    workers: frozenset[str]
    owners: frozenset[str]
    pin_policy: bool
    new_keys: bool
    timeout_s: float


def add_to(app: typer.Typer) -> None:
    """Give the `trust` command this part."""
    app.command(
        epilog=examples(
            "cloister trust pin verifier.example:8443 --mrenclave 3f0c...e1 --worker 9a41...07 --out trust.json",
            "cloister trust pin verifier.example:8443 --fingerprint sha256:51d2...9c --out trust.json",
        )
    )(pin)


def pin(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where the verifier serves HTTPS.")],
    *,
    mrenclave: Annotated[
        list[str] | None, typer.Option(help="Measurement of a build of the verifier that you trust, 64 hex; repeat.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Appraisal policy for the verifier's platform and code. (default: the built-in)")
    ] = None,
    anchor_root: Annotated[
        Path | None,
        typer.Option(help="DER root certificate of a simulated platform, in place of Intel's. It proves nothing."),
    ] = None,
    fingerprint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="sha256:HEX",
            help="Fingerprint of the mesh's root CA; repeat. By itself, without an enclave, it is all that is checked.",
        ),
    ] = None,
    worker: Annotated[list[str] | None, typer.Option(help="Measurement of workers to believe, 64 hex; repeat.")] = None,
    owner: Annotated[
        list[str] | None, typer.Option(help="Ed25519 key of an owner whose models to accept, 64 hex; repeat.")
    ] = None,
    pin_policy: Annotated[
        bool, typer.Option("--pin-policy", help="Believe results under the verifier's policy of today only.")
    ] = False,
    new_keys: Annotated[
        bool, typer.Option("--new-keys", help="By fingerprint: accept other keys than the bundle at --out names.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Trust bundle to write; one that is there is renewed.")],
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Ask a verifier for its own evidence, appraise it here, and write a trust bundle that believes it.

    Take the measurement from a build you made or checked yourself, never from the machine that runs the verifier. A
    bundle that is at --out already keeps the workers, owners and policies that it names. Ends with 3 when the verifier
    is not believed.
    """
    check_place(out)
    known = read_bundle(out) if out.exists() else None
    wanted = Wanted(
        address=address,
        mrenclave=hex_32(mrenclave or ()),
        policy=policy,
        anchor_root=anchor_root,
        fingerprints=frozenset(_fingerprint(each) for each in fingerprint or ()),
        workers=hex_32(worker or ()),
        owners=hex_32(owner or ()),
        pin_policy=pin_policy,
        new_keys=new_keys,
        timeout_s=timeout,
    )
    try:
        attested = _attested(wanted) if wanted.mrenclave or policy is not None else None
        bundle = attested.bundle if attested is not None else _by_fingerprint(wanted)
        if known is not None:
            bundle = renewed(bundle, known, new_keys=new_keys)
    except EvidenceRejected as error:
        raise Stop(
            f"the verifier at {address} is not believed, and {out} was left as it is: {error} ({error.reason})",
            ExitCode.REFUSED,
        ) from error
    except Unavailable as error:
        raise Stop(
            f"no verifier answers over HTTPS at {address} ({error.reason}); is it the address in https_listen of the "
            "verifier's settings, and is the verifier up? It is another one than that of its gRPC",
            ExitCode.UNAVAILABLE,
        ) from error
    except InvalidRequest as error:
        if error.reason != "address.invalid":
            raise
        raise Stop(f"'{address[:80]}' is no HOST:PORT, such as verifier.example:8443", ExitCode.USAGE) from error
    bundle = _named(bundle, wanted)
    write_bundle(bundle, out)
    _report(bundle, attested, out, as_json=as_json)


def _attested(wanted: Wanted) -> AttestedPin:
    try:
        return asyncio.run(
            pin_by_evidence(
                wanted.address,
                mrenclave=wanted.mrenclave,
                fingerprints=wanted.fingerprints,
                policy_toml=_policy(wanted.policy),
                anchor=anchor_of(root_der(wanted.anchor_root)),
                timeout_s=wanted.timeout_s,
            )
        )
    except NotReady as error:
        if error.reason != NO_ENCLAVE:
            raise
        raise Stop(
            f"{wanted.address} has no evidence to show, for it runs in no enclave; if you accept that, "
            "pin it with --fingerprint, of the root CA, from its operator",
            ExitCode.REFUSED,
        ) from error


def _by_fingerprint(wanted: Wanted) -> TrustBundle:
    fingerprints = wanted.fingerprints or _confirmed(wanted)
    pinning = pin_by_fingerprint(
        wanted.address, fingerprints, anchor=anchor_of(root_der(wanted.anchor_root)), timeout_s=wanted.timeout_s
    )
    return asyncio.run(pinning)


def _confirmed(wanted: Wanted) -> frozenset[str]:
    """Have a person compare the fingerprint with what the operator says; only where there is a person."""
    if not sys.stdin.isatty():
        raise Stop(
            "name what to believe the verifier by: --mrenclave, of a build that you trust; or --policy, with "
            "reference_values; or without an enclave --fingerprint, of the mesh's root CA",
            ExitCode.USAGE,
        )
    shown = asyncio.run(root_fingerprints(wanted.address, timeout_s=wanted.timeout_s))
    alarm(WEAK)
    for each in shown:
        say(f"sha256:{each}")
    typer.confirm("Is this the fingerprint of the root CA that the mesh's operator told you?", abort=True, err=True)
    return frozenset(shown)


def _named(bundle: TrustBundle, wanted: Wanted) -> TrustBundle:
    """The bundle with what was named on the command line in place of what it had."""
    if wanted.workers:
        bundle = replace(bundle, mrenclave=wanted.workers)
    if wanted.owners:
        bundle = replace(bundle, owners=wanted.owners)
    if wanted.pin_policy and bundle.pinned is not None:
        bundle = replace(bundle, verifier_policies=frozenset({bundle.pinned.policy_digest}))
    return bundle


def _report(bundle: TrustBundle, attested: AttestedPin | None, out: Path, *, as_json: bool) -> None:
    told = plain(bundle)
    if as_json:
        print_json(told)
    else:
        say(f"{bundle.verifier_id} is pinned in {out}", "bold green" if attested else "bold red")
        facts(_facts(bundle, attested), indent="  ")
    if attested is None:
        alarm(WEAK)
    if bundle.anchor.simulated:
        alarm(SIMULATED)
    if not bundle.pins_code:
        warn("It names no workers yet, so none is believed: 'cloister trust accept --mrenclave ...' names them.")


def _facts(bundle: TrustBundle, attested: AttestedPin | None) -> dict[str, object]:
    pinned = bundle.pinned
    found: dict[str, object] = {"mesh": bundle.cluster, "keys": ", ".join(sorted(bundle.thumbprints))}
    if attested is not None:
        appraisal = attested.appraisal
        found["mrenclave"] = appraisal.mrenclave.hex()
        found["platform"] = f"TCB {appraisal.tcb_status}, {', '.join(appraisal.advisory_ids) or 'no advisories'}"
        found["judged by"] = "two verifiers here, both with the same findings"
    if pinned is not None:
        found["policy"] = f"{pinned.policy_id}, digest {pinned.policy_digest}"
    found["workers"] = ", ".join(sorted(bundle.mrenclave or ())) or "none yet"
    return {**found, **trust_domains(bundle)}


def trust_domains(bundle: TrustBundle) -> dict[str, object]:
    """Which workers in TDX trust domains a bundle believes; nothing where it believes none."""
    if not bundle.pins_trust_domains:
        return {}
    return {"trust domains": ", ".join(sorted(bundle.td_measurement or ())) or "those of its own policy"}


def plain(bundle: TrustBundle) -> dict[str, object]:
    """What a trust bundle believes, for scripts."""
    return {
        "cluster": bundle.cluster,
        "verifier": bundle.verifier_id,
        "thumbprints": sorted(bundle.thumbprints),
        "anchor": bundle.anchor.name,
        "simulated": bundle.anchor.simulated,
        "mrenclave": None if bundle.mrenclave is None else sorted(bundle.mrenclave),
        "td_measurement": None if bundle.td_measurement is None else sorted(bundle.td_measurement),
        "owners": None if bundle.owners is None else sorted(bundle.owners),
        "verifier_policies": None if bundle.verifier_policies is None else sorted(bundle.verifier_policies),
        "floors": bundle.floors.to_plain(),
        "pinned": None if bundle.pinned is None else bundle.pinned.to_plain(),
    }


def _policy(path: Path | None) -> bytes | None:
    """A policy as it is in its file, which says what it means; one that does not load is named."""
    try:
        return None if path is None else read_policy(path).toml
    except NotReady as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    except InvalidRequest as error:
        raise Stop(f"{path} is no policy that loads: {error} ({error.reason})") from error


def _fingerprint(text: str) -> str:
    """As printed by us, or by openssl: with colons and in capitals, or its whole line."""
    digits = text.rpartition("=")[2].lower().removeprefix("sha256:").replace(":", "")
    if not _FINGERPRINT.fullmatch(digits):
        raise typer.BadParameter(f"'{text[:80]}' is not sha256: and 64 hex digits")
    return digits
