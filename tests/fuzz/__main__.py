"""Fuzz one target, or all: `make fuzz TARGET=quote RUNS=100000 SEED=1`.

    python -m fuzz all --runs 100000 --seed 1
    python -m fuzz claims --runs 100000 --coverage                 by atheris, guided by the branches it reaches

Ends with 1 when there was a finding; the inputs are kept under `.fuzz/`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from fuzz.certificates import Certificates
from fuzz.claims import ClaimsMaps
from fuzz.collateral import Collaterals
from fuzz.envelopes import Envelopes
from fuzz.quotes import Quotes
from fuzz.target import Target, changed, keep, run, timed
from fuzz.tokens import Tokens

TARGETS: Mapping[str, Callable[[], Target]] = {
    kind.name: kind for kind in (Quotes, Collaterals, ClaimsMaps, Tokens, Certificates, Envelopes)
}
KEPT = Path(".fuzz")
INSTRUMENTED = tuple(f"cloister.{name}" for name in ("appraisal", "dsse", "der", "ear", "evidence"))


def main() -> int:
    """Run what the command line asks for; 1 when there was a finding."""
    asked = _arguments()
    if asked.coverage:
        return guided(TARGETS[asked.target](), asked.runs, asked.seed)
    names = list(TARGETS) if asked.target == "all" else [asked.target]
    return max([seeded(TARGETS[name](), asked.runs, asked.seed) for name in names])


def seeded(target: Target, runs: int, seed: int) -> int:
    """Judge changed inputs, and print what came of them."""
    begun = time.monotonic()
    found = run(target, runs, seed)
    took_s = time.monotonic() - begun
    print(f"{target.name}: {runs} runs of seed {seed} in {took_s:.0f} s, {len(found.failures)} findings")
    print(f"  slowest: {1000 * found.slowest_s:.1f} ms of CPU, in run {found.slowest_run}")
    for answer, count in found.outcomes.most_common():
        print(f"  {count:8} {answer}")
    for n, what, raw in found.failures:
        print(f"run {n}, kept as {keep(KEPT, target.name, n, raw)}: {what}")
    return 1 if found.failures else 0


def guided(target: Target, runs: int, seed: int) -> int:
    """Let libFuzzer choose which inputs to change further, by the branches of our code that they reach."""
    import atheris

    for name, module in list(sys.modules.items()):
        if name.startswith(INSTRUMENTED):
            for member in list(vars(module).values()):
                if callable(member) and getattr(member, "__module__", "") == name and hasattr(member, "__code__"):
                    setattr(module, member.__name__, atheris.instrument_func(member))
    folder = KEPT / "corpus" / target.name
    for n, raw in enumerate(target.seeds):
        keep(folder, "seed", n, raw)

    def mutate(raw: bytes, max_size: int, number: int) -> bytes:
        return changed(target, Random(number), raw)[:max_size]

    words = [sys.argv[0], f"-runs={runs}", f"-seed={seed}", "-max_len=70000", f"-artifact_prefix={KEPT}/", str(folder)]
    atheris.Setup(words, lambda raw: timed(target, raw), custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coverage", action="store_true", help="one target, guided by atheris")
    asked = parser.parse_args()
    if asked.coverage and asked.target == "all":
        parser.error("--coverage takes one target")
    return asked


if __name__ == "__main__":
    sys.exit(main())
