"""Judging in processes of their own, a fixed number of them, started before the first question and replaced when lost.

An appraisal computes for a millisecond while it holds the interpreter's lock; here it holds that of another process,
one that we start ourselves (`judge_process.py`) rather than one of `multiprocessing`: those share a fate, and read each
other's answers with `pickle`.

A process that dies, or does not answer in time, takes the one question with it that it was asked: that caller hears
`Unavailable`, the rest wait for the others or for its successor. A caller who goes away leaves its question behind, so
nobody can end a process by hanging up.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Appraisal
from cloister.errors import CloisterError, EvidenceRejected, InternalError, NotReady, Unavailable
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.verifier import judge_frames as frames
from cloister.verifier.judge_frames import Anchor, Answer, Question
from cloister.verifier.judges import Case, Judge, Threads

# An appraisal takes a millisecond; this is for a machine that is out of breath.
ANSWER_S: Final = 5.0
START_S: Final = 30.0
_COMMAND: Final = (sys.executable, "-P", "-m", "cloister.verifier.judge_process")
_PAUSES_S: Final = (0.0, 0.1, 0.5, 2.0)

_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A case, as the question it makes, and who waits for it."""

    case: Case
    question: Question
    frame: bytes = field(repr=False)
    answer: asyncio.Future[Appraisal]


class JudgePool:
    """Judges under one trust anchor, in `size` processes. Made by `opened`."""

    def __init__(self, anchor: TrustAnchor, size: int, answer_s: float) -> None:
        self.size = size
        self._hello = frames.encode(Anchor(name=anchor.name, root_der=anchor.root_der))
        self._answer_s = answer_s
        self._asked: asyncio.Queue[_Asked] = asyncio.Queue()
        self._started = asyncio.Semaphore(0)
        self._pids: dict[int, int] = {}

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, anchor: TrustAnchor, size: int, *, lifecycle: Lifecycle, answer_s: float = ANSWER_S
    ) -> AsyncIterator[JudgePool]:
        """A pool whose processes are all ready; they live as long as the lifecycle's tasks.

        Raises:
            NotReady: They do not start.
        """
        pool = cls(anchor, size, answer_s)
        for place in range(size):
            lifecycle.spawn(pool._keeping(place), f"judge.{place}")
        try:
            async with asyncio.timeout(START_S):
                for _ in range(size):
                    await pool._started.acquire()
        except TimeoutError:
            raise NotReady(
                "the judging processes do not start, and standard error says why; where a process may start no other, "
                "set appraisal_processes = 0",
                reason="judge.lost",
            ) from None
        yield pool

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes there are now."""
        return tuple(self._pids.values())

    async def judge(self, case: Case) -> Appraisal:
        """As `Judge.judge`; the caller bounds how many of these there are at once."""
        question = _question(case)
        asked = _Asked(case, question, frames.encode(question), asyncio.get_running_loop().create_future())
        self._asked.put_nowait(asked)
        return await asked.answer

    async def _keeping(self, place: int) -> None:
        """Keep one process, and put the questions to it one after the other."""
        losses = 0
        while True:
            await asyncio.sleep(_PAUSES_S[min(losses, len(_PAUSES_S) - 1)])
            with suppress(_Lost):
                async with self._process(place) as process:
                    self._started.release()
                    while True:
                        await self._put(process, await self._asked.get())
                        losses = 0
            losses += 1
            _log.error("judge.lost", place=place)

    @asynccontextmanager
    async def _process(self, place: int) -> AsyncIterator[Process]:
        """A process that is ready, gone with the block; raises `_Lost` where it does not come up."""
        try:
            process = await asyncio.create_subprocess_exec(*_COMMAND, stdin=PIPE, stdout=PIPE, start_new_session=True)
        except OSError as error:  # no memory, or too many processes, at this moment
            _log.error("judge.not_started", error=error)
            raise _Lost from None
        self._pids[place] = process.pid
        try:
            async with asyncio.timeout(START_S):
                if not (await _exchanged(process, self._hello)).ready:
                    raise _Lost
            yield process
        except TimeoutError:
            raise _Lost from None
        finally:
            del self._pids[place]
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _put(self, process: Process, asked: _Asked) -> None:
        """Have one question answered; raises `_Lost`, when its caller has been told."""
        if asked.answer.done():
            return
        if process.returncode is not None:
            self._asked.put_nowait(asked)
            raise _Lost
        try:
            async with asyncio.timeout(self._answer_s):
                answer = await _answered(process, asked)
        except (TimeoutError, _Lost) as error:
            timed_out = isinstance(error, TimeoutError)
            reason = "appraisal.timed_out" if timed_out else "appraisal.lost"
            _settle(asked, Unavailable("the appraisal did not come to an end; begin again", reason=reason))
            raise _Lost from None
        _settle(asked, _read(answer))


@asynccontextmanager
async def judging(anchor: TrustAnchor, processes: int | None, lifecycle: Lifecycle) -> AsyncIterator[Judge]:
    """Who judges: so many processes, one for each CPU where None is said, or threads where there are to be none."""
    size = len(os.sched_getaffinity(0)) if processes is None else processes
    if size == 0:
        yield Threads(anchor)
        return
    async with JudgePool.opened(anchor, size, lifecycle=lifecycle) as pool:
        yield pool


class _Lost(Exception):
    """The process is gone, or cannot be relied on."""


def _question(case: Case) -> Question:
    return Question(
        quote=case.evidence.raw_quote,
        claims=case.evidence.claims_bytes,
        expect=case.expect,
        now=case.now,
        collateral_sha256=case.endorsements.verified.collateral.sha256,
        policy_digest=case.policy.digest,
    )


async def _answered(process: Process, asked: _Asked) -> Answer:
    answer = await _exchanged(process, asked.frame)
    if answer.needs:
        whole = replace(asked.question, collateral=asked.case.endorsements.raw, policy=asked.case.policy)
        answer = await _exchanged(process, frames.encode(whole))
    return answer


async def _exchanged(process: Process, frame: bytes) -> Answer:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(frame)
        await process.stdin.drain()
        size_bytes = frames.length(await process.stdout.readexactly(frames.LENGTH_BYTES))
        return frames.decode(await process.stdout.readexactly(size_bytes), Answer)
    except (OSError, EOFError, ValueError) as error:
        raise _Lost from error


def _read(answer: Answer) -> Appraisal | CloisterError:
    if answer.appraisal is not None:
        return answer.appraisal
    if answer.rejected is not None:
        return EvidenceRejected(answer.rejected.message, step=answer.rejected.step, reason=answer.rejected.reason)
    _log.error("appraisal.failed", kind=answer.failed or "an answer to another question")
    return InternalError("the appraisal failed", reason="appraisal.failed")


def _settle(asked: _Asked, outcome: Appraisal | CloisterError) -> None:
    if asked.answer.done():  # its caller has gone
        return
    if isinstance(outcome, CloisterError):
        asked.answer.set_exception(outcome)
    else:
        asked.answer.set_result(outcome)
