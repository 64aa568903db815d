"""A judging process: `python -m cloister.verifier.judge_process`, started by the verifier, one question at a time.

It reads frames (`judge_frames.py`) from standard input until that ends, which it does when the verifier ends, however
that comes about. It holds no key and opens no file or connection: all it has is what it is asked about. Signals to the
whole group are not for it: the verifier finishes its calls first.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections import OrderedDict
from typing import BinaryIO, Final, TypeVar

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Appraisal, Evidence, appraise
from cloister.appraisal.collateral import Collateral, VerifiedCollateral
from cloister.appraisal.policy import Policy
from cloister.errors import EvidenceRejected
from cloister.verifier import judge_frames as frames
from cloister.verifier.judge_frames import Anchor, Answer, Question, Rejected

# Families of platforms, and policies, that are judged by at the same time; older ones are asked for again.
HELD: Final = 64
MEMORY_BYTES: Final = 1 << 30
# Where there are too few processors, the verifier's event loop goes first.
NICENESS: Final = 5

V = TypeVar("V")


class Bench:
    """What a judging process holds between questions."""

    def __init__(self, anchor: TrustAnchor) -> None:
        self._anchor = anchor
        self._collateral: OrderedDict[bytes, VerifiedCollateral] = OrderedDict()
        self._policies: OrderedDict[bytes, Policy] = OrderedDict()

    def answer(self, question: Question) -> Answer:
        """Judge, or say what is missing."""
        try:
            self._learn(question)
            endorsed = self._collateral.get(question.collateral_sha256)
            policy = self._policies.get(question.policy_digest)
            if endorsed is None or policy is None:
                return Answer(needs=True)
            return Answer(appraisal=self._appraised(question, endorsed, policy))
        except EvidenceRejected as error:
            return Answer(rejected=Rejected(message=str(error), step=error.step, reason=error.reason))
        except Exception as error:  # the next question may be a better one; the verifier logs what this was
            return Answer(failed=type(error).__name__)

    def _appraised(self, question: Question, endorsed: VerifiedCollateral, policy: Policy) -> Appraisal:
        evidence = Evidence(raw_quote=question.quote, claims_bytes=question.claims)
        return appraise(evidence, endorsed, policy, self._anchor, question.now, expect=question.expect)

    def _learn(self, question: Question) -> None:
        if question.collateral is not None:
            collateral = Collateral.parse(question.collateral)
            _hold(self._collateral, collateral.sha256, collateral.verified(self._anchor, question.now))
        if question.policy is not None:
            _hold(self._policies, question.policy.digest, question.policy)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer frames until there are no more; raises ValueError for one that is none of ours."""
    anchor = frames.decode(_read(requests), Anchor)
    bench = Bench(TrustAnchor(anchor.name, anchor.root_der))
    _write(answers, Answer(ready=True))
    while raw := _read(requests):
        _write(answers, bench.answer(frames.decode(raw, Question)))


def main() -> int:
    """Be the process; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what anything prints must not get between the frames
    try:
        serve(requests, answers)
    except BrokenPipeError:
        return 1
    return 0


def _hold(held: OrderedDict[bytes, V], digest: bytes, value: V) -> None:
    held[digest] = value
    held.move_to_end(digest)
    if len(held) > HELD:
        held.popitem(last=False)


def _read(requests: BinaryIO) -> bytes:
    """The object of the next frame, or nothing where there is none."""
    head = requests.read(frames.LENGTH_BYTES)
    return requests.read(frames.length(head)) if head else b""


def _write(answers: BinaryIO, answer: Answer) -> None:
    answers.write(frames.encode(answer))
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
