from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.errors import CloisterError, InvalidRequest, LogBroken, NotReady
from cloister.kit.audit import AuditLog
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.cosignature import WitnessKey
from cloister.tlog.note import SignedNote
from cloister.verifier import witness_file
from cloister.verifier.witness import Witness
from cloister.verifier.writer_lease import LEASE_S
from fakes.results import Clock
from fakes.shown_log import ShownLog, opened_witness


class Stand:
    """A witness that can be restarted."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.refusals: list[str] = []
        self._folder = folder
        self._stack = ExitStack()
        self.restart()

    def restart(self) -> None:
        """The process anew."""
        self._stack.close()
        self.audit = self._stack.enter_context(AuditLog.opened(self._folder / "audit.db"))
        self.witness: Witness = self._stack.enter_context(
            opened_witness(self._folder, self.audit, monotonic=self.clock, refused=self.refusals.append)
        )

    async def show(self, log: ShownLog) -> SignedNote:
        """Have the head countersigned; returns the note with both signatures."""
        shown = log.shown()
        cosignature = await self.witness.countersign(shown)
        log.old_size = len(log.lines)
        return shown.note.with_signatures([cosignature])

    async def refused(self, log: ShownLog) -> CloisterError:
        """The error that the witness refuses its head with."""
        with pytest.raises(CloisterError) as refused:
            await self.witness.countersign(log.shown())
        return refused.value

    def events(self) -> list[str]:
        """What it has on record."""
        return [json.loads(entry.record)["event"] for entry in self.audit.records()]

    def close(self) -> None:
        """End it."""
        self._stack.close()


@contextmanager
def _stand(folder: Path) -> Iterator[Stand]:
    made = Stand(folder)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with _stand(tmp_path) as made:
        yield made


async def test_a_log_that_grows_is_countersigned_for_everybody_to_check(stand: Stand) -> None:
    log = ShownLog()
    for lines in (0, 3, 1, 0, 70):
        log.add(lines)
        note = await stand.show(log)
        key = WitnessKey.from_vkey(stand.witness.newest().witness)
        assert key.verify(note) > 0
        log.signer.key.verify(note)
    known = stand.witness.newest().known
    assert known is not None
    assert (known.head, known.note.text) == (log.head(), log.note().text)
    assert stand.events() == ["log.first_seen"]


async def test_what_was_countersigned_outlives_a_restart_with_key_and_lease(stand: Stand) -> None:
    log = ShownLog(5)
    note = await stand.show(log)
    key = stand.witness.key
    stand.restart()
    known = stand.witness.newest().known
    assert known is not None
    assert (str(known.note), stand.witness.key) == (str(note), key)
    log.add(2)
    await stand.show(log)


@pytest.mark.attack("H07")
@pytest.mark.parametrize("how", ["edited", "removed", "reordered", "forked", "truncated"])
async def test_a_log_that_is_not_what_it_was_is_not_countersigned(stand: Stand, how: str) -> None:
    log = ShownLog()
    log.add(1, model="a")
    log.add(6, model="b")
    before = await stand.show(log)
    if how == "edited":
        log.lines[2] = b'{"event":"nothing"}'
    elif how == "removed":
        del log.lines[2]
        log.add(1)
    elif how == "reordered":
        log.lines[0], log.lines[1] = log.lines[1], log.lines[0]
    elif how == "forked":
        log.lines[6] = b'{"event":"nothing"}'
    log.add(3)
    if how == "truncated":
        del log.lines[4:]
        log.old_size = 4  # what it must say to have a proof at all
    refusal = await stand.refused(log)
    assert refusal.reason == ("witness.moved" if how == "truncated" else "log.forked")
    known = stand.witness.newest().known
    assert known is not None
    assert known.note.text == before.text
    assert stand.refusals == [refusal.reason]


@pytest.mark.attack("H07")
async def test_a_fork_is_alarmed_once_and_on_record_and_the_honest_log_goes_on(stand: Stand) -> None:
    log = ShownLog(4)
    await stand.show(log)
    fork = log.copied(writer=log.writer)
    fork.lines[3] = b'{"event":"nothing"}'
    assert [type(await stand.refused(fork)) for _ in range(3)] == [LogBroken] * 3
    assert stand.events() == ["log.first_seen", "log.refused"]
    log.add()
    await stand.show(log)


@pytest.mark.attack("F10")
async def test_of_two_writers_of_one_state_one_writes(stand: Stand) -> None:
    log = ShownLog(4)
    await stand.show(log)
    clone = log.copied()
    clone.add(1, model="other")
    stand.clock.pass_s(LEASE_S - 0.1)
    assert (await stand.refused(clone)).reason == "writer.other"
    log.add()
    await stand.show(log)
    stand.clock.pass_s(LEASE_S - 0.1)
    assert (await stand.refused(clone)).reason == "writer.other"
    stand.clock.pass_s(0.2)  # the first has gone
    assert (await stand.refused(clone)).reason == "witness.moved"  # and what it wrote is not in the clone's log


async def test_whose_the_lease_is_and_for_how_long_is_told(stand: Stand) -> None:
    log = ShownLog(4)
    await stand.witness.countersign(replace(log.shown(), writer_name="10.0.0.7:9446 on host-3"))
    stand.clock.pass_s(4)
    newest = stand.witness.newest()
    assert (newest.writer_name, newest.lease_left_s) == ("10.0.0.7:9446 on host-3", LEASE_S - 4)
    with pytest.raises(NotReady, match=r"10\.0\.0\.7:9446 on host-3"):
        await stand.witness.countersign(log.copied().shown())
    stand.clock.pass_s(LEASE_S)
    assert stand.witness.newest().lease_left_s == 0


@pytest.mark.attack("F10")
async def test_a_restart_of_the_witness_gives_the_lease_to_nobody_else_too_early(stand: Stand) -> None:
    log = ShownLog(4)
    await stand.show(log)
    stand.restart()
    standby = log.copied()
    stand.clock.pass_s(LEASE_S - 0.1)
    assert (await stand.refused(standby)).reason == "writer.other"
    stand.clock.pass_s(0.2)
    standby.add()
    await stand.show(standby)
    assert (await stand.refused(log)).reason == "writer.other"


async def test_a_writer_that_leaves_lets_the_next_one_begin_at_once(stand: Stand) -> None:
    log = ShownLog(4)
    await stand.show(log)
    await stand.witness.countersign(log.shown(leaving=True))
    next_one = log.copied()
    stand.restart()
    next_one.add()
    await stand.show(next_one)


@pytest.mark.attack("F10")
async def test_two_heads_at_once_from_the_same_size_are_not_both_countersigned(stand: Stand) -> None:
    log = ShownLog(4)
    await stand.show(log)
    fork = log.copied(writer=log.writer)
    log.add(2, model="a")
    fork.add(3, model="b")
    async with asyncio.TaskGroup() as group:
        ends = [group.create_task(_end(stand, each)) for each in (log, fork)]
    assert sorted(end.result() for end in ends) == ["countersigned", "witness.moved"]


async def _end(stand: Stand, log: ShownLog) -> str:
    try:
        await stand.witness.countersign(log.shown())
    except NotReady as refusal:
        return refusal.reason
    return "countersigned"


@pytest.mark.attack("H07")
async def test_another_key_or_another_s_signature_is_not_taken_for_the_log(stand: Stand) -> None:
    log = ShownLog(4)
    await stand.show(log)
    other = log.copied(writer=log.writer)
    other.key = Ed25519PrivateKey.generate()
    assert (await stand.refused(other)).reason == "log_key.other"
    with pytest.raises(LogBroken):
        await stand.witness.countersign(replace(log.shown(), note=other.note()))
    with pytest.raises(LogBroken) as forged:
        await stand.witness.countersign(replace(log.shown(), note=replace(log.note(), text=log.head(3).text)))
    assert forged.value.reason == "signature.invalid"


@pytest.mark.parametrize(
    "origin", ["other.test/provisioner/1", "provisioner/1", "cloister.test/provisioner/0", "cloister.test/log/1"]
)
async def test_no_other_log_is_witnessed(stand: Stand, origin: str) -> None:
    log = ShownLog(1)
    text = replace(log.head(), origin=origin).text
    with pytest.raises(InvalidRequest) as refused:
        await stand.witness.countersign(replace(log.shown(), note=log.signer.sign(text)))
    assert refused.value.reason == "origin.unknown"


async def test_at_first_sight_nothing_is_taken_as_known(stand: Stand) -> None:
    log = ShownLog(4)
    log.old_size = 2
    assert (await stand.refused(log)).reason == "witness.moved"
    log.old_size = 0
    await stand.show(log)


async def _restored(stand: Stand, lines: int = 9, keep: int = 5) -> tuple[ShownLog, Checkpoint]:
    """A log whose newest lines are lost, and the head that was countersigned."""
    log = ShownLog(lines)
    await stand.show(log)
    return log, log.head()


async def test_a_resumed_log_that_owns_up_to_all_of_it_goes_on(stand: Stand) -> None:
    log, lost = await _restored(stand)
    old = log.copied(writer=log.writer)
    log.resume(5, should_size=lost.size, should_root=lost.root)
    log.add(2)
    await stand.show(log)
    assert stand.events()[-1] == "log.resumed"
    log.add()
    await stand.show(log)
    assert (await stand.refused(old)).reason == "generation.ended"


_LIES = {
    "fewer lines": {"should_size": 8},
    "another root": {"should_root": "00" * 32},
    "another log": {"old_origin": "cloister.test/provisioner/7"},
    "kept more": {"have_size": 6},
    "another event": {"event": "key.released"},
    "no number": {"should_size": "9"},
    "true for a number": {"have_size": True},
}


@pytest.mark.attack("H07")
@pytest.mark.parametrize("lie", _LIES)
async def test_a_resumed_log_that_does_not_own_up_is_not_countersigned(stand: Stand, lie: str) -> None:
    log, lost = await _restored(stand)
    honest = {"should_size": lost.size, "should_root": lost.root}
    log.resume(5, **honest)
    line = {**json.loads(log.lines[5]), **_LIES[lie]}
    log.lines[5] = json.dumps(line).encode()
    refusal = await stand.refused(log)
    assert refusal.reason in ("resumption.false", "resumption.malformed")


@pytest.mark.attack("H07")
async def test_a_new_generation_shows_its_first_line_and_skips_none(stand: Stand) -> None:
    log, lost = await _restored(stand)
    log.resume(5, should_size=lost.size, should_root=lost.root)
    shown = log.shown()
    assert shown.resumed is not None
    for broken in (
        replace(shown, resumed=None),
        replace(shown, resumed=replace(shown.resumed, proof=[bytes(32)])),
        replace(shown, resumed=replace(shown.resumed, sequence=5)),
    ):
        with pytest.raises(LogBroken):
            await stand.witness.countersign(broken)
    log.generation += 1
    assert (await stand.refused(log)).reason == "resumption.false"


async def test_a_writer_is_16_bytes(stand: Stand) -> None:
    assert isinstance(await stand.refused(ShownLog(1, writer=b"short")), InvalidRequest)


def test_a_file_that_is_none_stops_the_verifier(tmp_path: Path) -> None:
    (tmp_path / "witness.db").write_bytes(b"no database" * 1000)
    with pytest.raises(NotReady) as lost, _stand(tmp_path):
        pass
    assert lost.value.reason == "witness.lost"


def test_a_key_that_lies_open_stops_the_verifier(tmp_path: Path) -> None:
    (tmp_path / "witness.key").write_text("no key")
    with pytest.raises(NotReady), _stand(tmp_path):
        pass


@pytest.mark.attack("F09")
def test_a_witness_whose_memory_was_taken_out_does_not_begin_anew(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.close()
    for path in tmp_path.glob("witness.db*"):
        path.unlink()
    with pytest.raises(NotReady, match="put back the newest copy") as refused:
        stand.restart()
    assert refused.value.reason == "witness.lost"
    stand.close()


@pytest.mark.attack("F10")
def test_two_verifiers_do_not_witness_by_one_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness_file, "WAIT_S", 0.0)
    with _stand(tmp_path), AuditLog.opened(tmp_path / "other.db") as audit:
        with pytest.raises(NotReady, match="each needs a state_dir of its own") as refused:
            opened_witness(tmp_path, audit, monotonic=Clock()).__enter__()
        assert refused.value.reason == "witness.taken"
    with _stand(tmp_path):
        pass
