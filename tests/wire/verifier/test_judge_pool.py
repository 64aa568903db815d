"""Judging processes for real: asked, stopped, killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Evidence, Expected
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.errors import EvidenceRejected, Unavailable
from cloister.kit.lifecycle import Lifecycle
from cloister.verifier.collateral import Endorsements
from cloister.verifier.judge_pool import JudgePool
from cloister.verifier.judges import Case, Threads
from fakes.sim import SampleEvidence, good_evidence


@pytest.fixture
def evidence() -> SampleEvidence:
    return good_evidence()


@pytest.fixture
def anchor(evidence: SampleEvidence) -> TrustAnchor:
    return TrustAnchor("simulated", evidence.root_der)


@pytest.fixture
def case(evidence: SampleEvidence, anchor: TrustAnchor) -> Case:
    now = datetime.now(UTC)
    return Case(
        evidence=Evidence(raw_quote=evidence.quote, claims_bytes=evidence.claims_bytes),
        expect=Expected(nonce=evidence.claims.nonce),
        endorsements=Endorsements(Collateral.parse(evidence.collateral).verified(anchor, now), evidence.collateral),
        policy=Policy.default(),
        now=now,
    )


@asynccontextmanager
async def pool_of(anchor: TrustAnchor, size: int = 1, *, answer_s: float = 20.0) -> AsyncIterator[JudgePool]:
    async with (
        asyncio.timeout(60),
        Lifecycle.running() as lifecycle,
        JudgePool.opened(anchor, size, lifecycle=lifecycle, answer_s=answer_s) as pool,
    ):
        yield pool


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_a_process_comes_to_what_a_thread_comes_to(case: Case, anchor: TrustAnchor) -> None:
    async with pool_of(anchor) as pool:
        (pid,) = pool.pids
        assert await pool.judge(case) == await pool.judge(case) == await Threads(anchor).judge(case)
        assert pool.pids == (pid,)
    assert gone(pid)


async def test_a_rejection_keeps_its_step_and_reason(case: Case, anchor: TrustAnchor) -> None:
    broken = Case(
        evidence=Evidence(raw_quote=b"", claims_bytes=b""),
        expect=case.expect,
        endorsements=case.endorsements,
        policy=case.policy,
        now=case.now,
    )
    async with pool_of(anchor) as pool:
        with pytest.raises(EvidenceRejected) as refused:
            await pool.judge(broken)
        assert (refused.value.step, refused.value.reason) == (1, "quote.malformed")


async def test_a_killed_process_loses_one_question_and_is_replaced(case: Case, anchor: TrustAnchor) -> None:
    async with pool_of(anchor) as pool, asyncio.TaskGroup() as group:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        lost, waits = group.create_task(_outcome(pool, case)), group.create_task(_outcome(pool, case))
        await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        assert await lost == "appraisal.lost"
        assert await waits == ""
        assert pool.pids != (pid,)


async def test_of_many_questions_each_kill_loses_one_at_most(case: Case, anchor: TrustAnchor) -> None:
    async with pool_of(anchor, 2) as pool, asyncio.TaskGroup() as group:
        questions = [group.create_task(_outcome(pool, case)) for _ in range(300)]
        killed: set[int] = set()
        while not all(question.done() for question in questions):
            await asyncio.sleep(0.05)
            for pid in pool.pids[: 3 - len(killed)]:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
    outcomes = [question.result() for question in questions]
    assert len(killed) == 3
    assert set(outcomes) <= {"", "appraisal.lost"}
    assert outcomes.count("appraisal.lost") <= 3


async def test_a_process_killed_while_idle_loses_nothing(case: Case, anchor: TrustAnchor) -> None:
    async with pool_of(anchor) as pool:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        while not gone(pid):  # noqa: ASYNC110 - another process is watched from outside, by looking
            await asyncio.sleep(0.01)
        assert await _outcome(pool, case) == ""


async def test_a_judgement_that_hangs_is_given_up(case: Case, anchor: TrustAnchor) -> None:
    async with pool_of(anchor, answer_s=0.2) as pool:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        assert await _outcome(pool, case) == "appraisal.timed_out"
        assert await _outcome(pool, case) == ""
        assert gone(pid)


async def test_a_caller_that_hangs_up_ends_no_process(case: Case, anchor: TrustAnchor) -> None:
    async with pool_of(anchor) as pool, asyncio.TaskGroup() as group:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        impatient = [group.create_task(pool.judge(case)) for _ in range(3)]
        await asyncio.sleep(0.05)
        for task in impatient:
            task.cancel()
        os.kill(pid, signal.SIGCONT)
        assert await _outcome(pool, case) == ""
        assert pool.pids == (pid,)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_to_the_whole_group_ends_no_judgement(
    case: Case, anchor: TrustAnchor, number: signal.Signals
) -> None:
    async with pool_of(anchor) as pool:
        (pid,) = pool.pids
        os.kill(pid, number)
        assert await _outcome(pool, case) == ""
        assert pool.pids == (pid,)


async def _outcome(pool: JudgePool, case: Case) -> str:
    """Empty for evidence that was believed, else the reason why nothing came of it."""
    try:
        await pool.judge(case)
    except Unavailable as error:
        return error.reason
    return ""
