"""Fuzz one target, or all: `make fuzz TARGET=quote RUNS=100000 SEED=1`.

    python -m fuzz all --runs 100000 --seed 1
    python -m fuzz claims --runs 100000 --coverage                 by atheris, guided by the branches it reaches

Ends with 1 when there was a finding; the inputs are kept under `.fuzz/`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz.target import Target

KEPT = Path(".fuzz")
# What atheris watches; it must do so from before the first import, so nothing above may lead there.
WATCHED = [f"cloister.{room}" for room in ("appraisal", "contract", "der", "dsse", "ear", "evidence", "gateway")]

# The names of `fuzz.targets.TARGETS`, which is not imported here.
NAMES = (
    "quote",
    "collateral",
    "claims",
    "token",
    "access-token",
    "certificate",
    "envelope",
    "job",
    "job-statement",
    "request",
)


def main() -> int:
    """Run what the command line asks for; 1 when there was a finding."""
    asked = _arguments()
    if asked.coverage:
        return guided(asked.target, asked.runs, asked.seed)
    from fuzz.targets import TARGETS

    names = list(TARGETS) if asked.target == "all" else [asked.target]
    return max([seeded(TARGETS[name](), asked.runs, asked.seed) for name in names])


def seeded(target: Target, runs: int, seed: int) -> int:
    """Judge changed inputs, and print what came of them."""
    from fuzz.target import keep, run

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


def guided(name: str, runs: int, seed: int) -> int:
    """Let libFuzzer choose which inputs to change further, by the branches of our code that they reach."""
    import atheris

    with atheris.instrument_imports(include=WATCHED):
        from fuzz.target import changed, keep, timed
        from fuzz.targets import TARGETS
    target = TARGETS[name]()
    folder = KEPT / "corpus" / name
    for n, raw in enumerate(target.seeds):
        keep(folder, "seed", n, raw)

    def mutate(raw: bytes, max_size: int, number: int) -> bytes:
        return changed(target, Random(number), raw)[:max_size]

    words = [sys.argv[0], f"-runs={runs}", f"-seed={seed}", "-max_len=70000", f"-artifact_prefix={KEPT}/", str(folder)]
    atheris.Setup(words, lambda raw: timed(target, raw), custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", choices=[*NAMES, "all"])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coverage", action="store_true", help="one target, guided by atheris")
    asked = parser.parse_args()
    if asked.coverage and asked.target == "all":
        parser.error("--coverage takes one target")
    return asked


if __name__ == "__main__":
    sys.exit(main())
