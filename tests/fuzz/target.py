"""What is fuzzed, and what must never happen: the oracle, and the loop that asks it.

A target has valid inputs, a way to change one that keeps most of its structure, and a judge: the code of the product.
Its answer is a word, the reason of a refusal or `accepted`; the judge itself raises `Violation` where something was
accepted that says other than what was signed. Any exception but `InvalidRequest`, `EvidenceRejected` and
`Unauthenticated` is a crash.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from cloister.errors import EvidenceRejected, InvalidRequest, Unauthenticated
from fuzz.mutation import changed_bytes

ACCEPTED = "accepted"
LIMIT_S = 0.05


class Violation(AssertionError):
    """Something was accepted, or took so long, that it must not have been."""


class Target(Protocol):
    """One parser and all that stands behind it.

    Attributes:
        seeds: Valid inputs.
        name: As on the command line.
    """

    name: str
    seeds: list[bytes]

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        """Change an input; may raise anything where earlier changes left nothing to change in this way."""
        ...

    def judge(self, raw: bytes) -> None:
        """Accept the input or raise.

        Raises:
            InvalidRequest: Refused, as are `EvidenceRejected` and `Unauthenticated`.
            Violation: Accepted, and something in it is not what was signed.
        """
        ...


@dataclass
class Findings:
    """What came of it.

    Attributes:
        outcomes: How often each reason, and `accepted`, was the answer.
        failures: Number of the run, the traceback, and the input.
        slowest_s: CPU time of the slowest run, and its number.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, bytes]] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest_run: int = -1


def outcome(target: Target, raw: bytes) -> str:
    """The judge's answer; whatever else it raises is a finding."""
    try:
        target.judge(raw)
    except (InvalidRequest, EvidenceRejected, Unauthenticated) as error:
        return error.reason
    return ACCEPTED


def timed(target: Target, raw: bytes) -> tuple[str, float]:
    """The answer, and the CPU time it took; asked again where that was long, since a machine has its hiccups."""
    begun = time.thread_time()
    answer = outcome(target, raw)
    took_s = time.thread_time() - begun
    if took_s > LIMIT_S:
        begun = time.thread_time()
        outcome(target, raw)
        took_s = min(took_s, time.thread_time() - begun)
    if took_s > LIMIT_S:
        raise Violation(f"took {1000 * took_s:.0f} ms of CPU, {1000 * LIMIT_S:.0f} are allowed")
    return answer, took_s


def made(target: Target, rng: Random) -> bytes:
    """A valid input, changed once to four times."""
    raw = rng.choice(target.seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        raw = changed(target, rng, raw)
    return raw


def changed(target: Target, rng: Random, raw: bytes) -> bytes:
    """The input changed in the target's way, or where that fails, in any way."""
    try:
        return target.mutated(rng, raw)
    except Exception:
        return changed_bytes(rng, raw)


def run(target: Target, runs: int, seed: int) -> Findings:
    """Judge `runs` changed inputs.

    The seed decides the changes. Keys and signatures are new each time, so a finding comes with its input and its
    traceback rather than with a promise that it can be found again.
    """
    found = Findings()
    for n in range(runs):
        raw = made(target, Random(f"{target.name}/{seed}/{n}"))
        try:
            answer, took_s = timed(target, raw)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            found.failures.append((n, "".join(traceback.format_exception(error)), raw))
            continue
        found.outcomes[answer] += 1
        if took_s > found.slowest_s:
            found.slowest_s, found.slowest_run = took_s, n
    return found


def keep(folder: Path, name: str, n: int, raw: bytes) -> Path:
    """Write an input that a failure came of, and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{n}"
    path.write_bytes(raw)
    return path
