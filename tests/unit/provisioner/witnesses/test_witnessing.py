from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloister.errors import NotReady, Unavailable
from cloister.kit.audit import AuditLog
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.provisioner.witnesses import witnessing
from cloister.provisioner.witnesses.link import LEASE_S, WitnessLink
from cloister.provisioner.witnesses.witnessed import Unwitnessed
from cloister.provisioner.witnesses.witnessing import Witnessing
from cloister.tlog.cosignature import WitnessKey
from cloister.tlog.note import SignedNote
from fakes.results import Clock
from fakes.shown_log import ShownLog, opened_witness
from fakes.verifier_at_hand import VerifierAtHand


class Hall:
    """Several verifiers, and provisioners that are witnessed by them."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self._folder = folder
        self._stack = ExitStack()
        self.verifiers: list[VerifierAtHand] = []

    def open(self, number: int) -> None:
        """So many verifiers."""
        for one in range(number):
            folder = self._folder / str(one)
            folder.mkdir(exist_ok=True)
            audit = self._stack.enter_context(AuditLog.opened(folder / "audit.db"))
            witness = self._stack.enter_context(opened_witness(folder, audit, monotonic=self.clock))
            self.verifiers.append(VerifierAtHand(witness, f"verifier-{one}:1"))

    def writer(self, name: bytes = b"w") -> Witnessing:
        """A provisioner's side."""
        verifiers: list[Any] = list(self.verifiers)
        links = [WitnessLink(each, name * 16, name="first", monotonic=self.clock) for each in verifiers]
        return Witnessing(links, metrics=Metrics(), monotonic=self.clock)

    def close(self) -> None:
        """End them."""
        self._stack.close()


@pytest.fixture
def hall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hall]:
    monkeypatch.setattr(witnessing, "RENEW_S", 0.01)
    made = Hall(tmp_path)
    yield made
    made.close()


@asynccontextmanager
async def _running(writer: Witnessing, log: ShownLog) -> AsyncIterator[None]:
    async with Lifecycle.running() as lifecycle, writer.running(log, lifecycle):
        yield


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what witnesses say is looked at
            await asyncio.sleep(0.005)


def _reason(writer: Witnessing) -> str:
    try:
        writer.check()
    except NotReady as refusal:
        return refusal.reason
    return ""


async def test_a_change_is_answered_when_it_is_countersigned(hall: Hall) -> None:
    hall.open(1)
    log, writer = ShownLog(2), hall.writer()
    assert _reason(writer) == "witness.behind"
    async with _running(writer, log):
        await writer.witnessed(2)
        writer.check()
        log.add(3)
        await writer.witnessed(5)
    note = SignedNote.parse(writer.countersigned())
    assert note.text == log.note().text
    WitnessKey.from_vkey(hall.verifiers[0].witness.newest().witness).verify(note)


@pytest.mark.attack("F11")
async def test_the_lease_is_renewed_while_a_slow_vault_holds_every_thread_that_serves_calls(hall: Hall) -> None:
    hall.open(1)
    log, writer, answers = ShownLog(2), hall.writer(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(asyncio.to_thread(answers.wait, 60))
            try:
                async with _running(writer, log):
                    log.add(3)
                    await writer.witnessed(5)
                    writer.check()
            finally:
                answers.set()


async def test_heads_are_what_each_witness_remembers(hall: Hall) -> None:
    hall.open(3)
    log, writer = ShownLog(2), hall.writer()
    assert await writer.heads() == []
    async with _running(writer, log):
        await writer.witnessed(2)
    hall.verifiers[0].up = False
    heads = await hall.writer().heads()
    assert [SignedNote.parse(head).text for head in heads] == [log.note().text] * 2
    hall.verifiers[1].up = False
    with pytest.raises(Unavailable) as silent:
        await hall.writer().heads()
    assert silent.value.reason == "witness.behind"


@pytest.mark.attack("H05")
async def test_without_a_word_from_the_witness_nothing_is_released_after_the_lease(hall: Hall) -> None:
    hall.open(1)
    log, writer = ShownLog(2), hall.writer()
    async with _running(writer, log):
        await writer.witnessed(2)
        hall.verifiers[0].up = False
        seen = hall.verifiers[0].knocks
        await _until(lambda: hall.verifiers[0].knocks > seen + 1)
        hall.clock.pass_s(LEASE_S - 0.1)
        writer.check()
        hall.clock.pass_s(0.2)
        assert _reason(writer) == "witness.behind"
        hall.verifiers[0].up = True
        await _until(lambda: _reason(writer) == "")


@pytest.mark.attack("H05")
async def test_a_change_that_nobody_countersigns_says_that_it_is_on_record(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnessing, "CHANGE_S", 0.05)
    hall.open(1)
    log, writer = ShownLog(2), hall.writer()
    hall.verifiers[0].up = False
    async with _running(writer, log):
        with pytest.raises(NotReady) as behind:
            await writer.witnessed(2)
    assert behind.value.reason == "witness.behind"
    assert "line 2 is on record" in str(behind.value)


async def test_a_majority_is_enough_and_less_is_not(hall: Hall) -> None:
    hall.open(3)
    log, writer = ShownLog(2), hall.writer()
    hall.verifiers[0].up = False
    async with _running(writer, log):
        await writer.witnessed(2)
        writer.check()
        assert len(SignedNote.parse(writer.countersigned()).signatures) == 3  # the log's and two
        hall.verifiers[1].up = False
        hall.clock.pass_s(LEASE_S + 1)
        assert _reason(writer) == "witness.behind"


async def test_one_witness_at_two_addresses_is_one(hall: Hall) -> None:
    hall.open(1)
    hall.verifiers.append(VerifierAtHand(hall.verifiers[0].witness, "again:1"))
    log, writer = ShownLog(2), hall.writer()
    async with _running(writer, log):
        await _until(lambda: hall.verifiers[1].knocks > 2)
        assert _reason(writer) == "witness.behind"


@pytest.mark.attack("F10")
async def test_of_two_provisioners_of_one_state_the_second_releases_nothing(hall: Hall) -> None:
    hall.open(1)
    log, writer = ShownLog(2), hall.writer()
    async with _running(writer, log):
        await writer.witnessed(2)
        second = hall.writer(b"2")
        clone = log.copied()
        async with _running(second, clone):
            await _until(lambda: _reason(second) == "writer.other")
            writer.check()
            hall.clock.pass_s(LEASE_S - 0.1)
            await _until(lambda: _reason(writer) == "")
            assert _reason(second) == "writer.other"
            assert second.overtaken.is_set()
        assert not writer.overtaken.is_set()


async def test_who_has_the_lease_is_told_until_it_is_free_at_a_majority(hall: Hall) -> None:
    hall.open(3)
    asking = hall.writer(b"2")
    assert await asking.other() is None
    writer = hall.writer()
    async with _running(writer, ShownLog(2)):
        await writer.witnessed(2)
        assert await asking.other() == "first"
        hall.verifiers[0].up = False
        assert await asking.other() == "first"
        hall.verifiers[1].up = False
        with pytest.raises(Unavailable) as silent:
            await asking.other()
        assert silent.value.reason == "witness.behind"
        hall.verifiers[0].up = hall.verifiers[1].up = True
    assert await asking.other() is None


@pytest.mark.attack("F10")
async def test_who_was_cut_off_while_another_wrote_is_overtaken_though_the_lease_is_free(hall: Hall) -> None:
    hall.open(1)
    log, writer = ShownLog(2), hall.writer()
    async with _running(writer, log):
        await writer.witnessed(2)
        hall.verifiers[0].up = False
        hall.clock.pass_s(LEASE_S + 1)
        await _until(lambda: _reason(writer) == "witness.behind")
        second, at_hand = hall.writer(b"2"), VerifierAtHand(hall.verifiers[0].witness)
        second._links[0]._verifier = at_hand  # type: ignore[assignment]  # which is cut off from nobody
        async with _running(second, longer := log.copied()):
            longer.add()
            await second.witnessed(3)
        hall.verifiers[0].up = True
        await _until(writer.overtaken.is_set)
        assert _reason(writer) == "state.forked"


@pytest.mark.attack("F10")
async def test_a_clone_that_has_the_lease_and_another_history_finds_that_out(hall: Hall) -> None:
    hall.open(1)
    log, writer = ShownLog(2), hall.writer()
    clone = log.copied()
    async with _running(writer, log):
        log.add(1, model="a")
        await writer.witnessed(3)
    clone.add(2, model="b")
    second = hall.writer(b"2")
    async with _running(second, clone):
        await _until(lambda: _reason(second) == "state.forked")


@pytest.mark.attack("H07")
async def test_a_state_that_was_put_back_from_another_time_finds_that_out(hall: Hall) -> None:
    hall.open(1)
    log, writer = ShownLog(4), hall.writer()
    async with _running(writer, log):
        await writer.witnessed(4)
    del log.lines[2:]
    again = hall.writer(b"2")
    async with _running(again, log):
        await _until(lambda: _reason(again) == "state.forked")


async def test_a_writer_that_ends_lets_the_next_one_begin_at_once(hall: Hall) -> None:
    hall.open(3)
    log, writer = ShownLog(2), hall.writer()
    async with _running(writer, log):
        await writer.witnessed(2)
    assert _reason(writer) == "witness.behind"
    second = hall.writer(b"2")
    async with _running(second, log):
        await _until(lambda: _reason(second) == "")


async def test_a_lost_answer_is_asked_for_and_nothing_is_forked(hall: Hall) -> None:
    hall.open(1)
    log, writer = ShownLog(2), hall.writer()
    async with _running(writer, log):
        await writer.witnessed(2)
        hall.verifiers[0].lose_answers = True
        log.add(3)
        await _until(lambda: hall.verifiers[0].witness.newest().known.head.size == 5)  # type: ignore[union-attr]
        hall.verifiers[0].lose_answers = False
        await writer.witnessed(5)


async def test_a_resumed_log_goes_on_and_the_old_generation_does_not(hall: Hall) -> None:
    hall.open(1)
    log, writer = ShownLog(6), hall.writer()
    async with _running(writer, log):
        await writer.witnessed(6)
    lost, old = log.head(), log.copied()
    log.resume(4, should_size=lost.size, should_root=lost.root)
    log.add()
    again = hall.writer(b"2")
    async with _running(again, log):
        await again.witnessed(6)
        log.add()
        await again.witnessed(7)
    outdated = hall.writer(b"3")
    async with _running(outdated, old):
        await _until(lambda: _reason(outdated) == "state.forked")


async def test_without_a_verifier_nobody_is_waited_for() -> None:
    nobody = Unwitnessed(asyncio.Event())
    nobody.check()
    assert await nobody.other() is None
    await nobody.witnessed(7)
    assert (list(await nobody.heads()), nobody.countersigned()) == ([], "")
    async with Lifecycle.running() as lifecycle, nobody.running(ShownLog(), lifecycle):
        pass
