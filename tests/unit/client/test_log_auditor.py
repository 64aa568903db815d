from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.client import log_auditor
from cloister.client.audit_export import AuditExport, verify_export
from cloister.client.audit_memory import AuditMemory
from cloister.client.log_audit import LogAudit
from cloister.client.operator import AuditLine
from cloister.errors import InvalidRequest, LogBroken, NotFound, NotReady
from cloister.kit.audit import AuditLog
from cloister.tlog.cosignature import WitnessKey
from fakes.shown_log import opened_witness
from fakes.shown_record import AuditRoom, audit_room
from fakes.verifier_at_hand import VerifierAtHand

Lines = list[bytes | None]
_EDITED = b'{"event":"key.refused","model":"digits","sequence":4}'


@pytest.fixture
def room(tmp_path: Path) -> Iterator[AuditRoom]:
    with audit_room(tmp_path) as made:
        yield made


async def _broken(room: AuditRoom, *, owner: bool = False) -> str:
    with pytest.raises(LogBroken) as broken:
        await room.auditor(owner=owner).verify()
    return broken.value.reason


async def test_at_first_contact_keys_are_pinned_and_then_everything_must_stay(room: AuditRoom) -> None:
    await room.grow(9)
    audit = await room.auditor().verify()
    assert (audit.lines, audit.head.head.size, audit.newer) == (9, 9, 0)
    assert audit.is_first_contact
    assert [each.name for each in audit.head.countersigned_at] == ["demo.cloister.internal/verifier"]
    await room.grow(4)
    room.log.add(2)
    audit = await room.auditor().verify()
    assert (audit.lines, audit.head.head.size, audit.newer, audit.kept_size) == (15, 13, 2, 9)
    kept = room.memory.read()
    assert kept is not None
    assert kept.head == room.log.head(13)


def _edited(lines: list[bytes]) -> Lines:
    return [*lines[:3], _EDITED, *lines[4:]]


def _removed(lines: list[bytes]) -> Lines:
    return [*lines[:3], *lines[4:]]


def _hidden(lines: list[bytes]) -> Lines:
    return [*lines[:3], None, *lines[4:]]


def _reordered(lines: list[bytes]) -> Lines:
    return [lines[1], lines[0], *lines[2:]]


def _truncated(lines: list[bytes]) -> Lines:
    return list(lines[:6])


def _inserted(lines: list[bytes]) -> Lines:
    return [*lines[:3], _EDITED, *lines[3:]]


@pytest.mark.attack("H07")
@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (_edited, "log.forked"),
        (_removed, "log.truncated"),
        (_hidden, "line.missing"),
        (_reordered, "log.forked"),
        (_truncated, "log.truncated"),
        (_inserted, "log.forked"),
    ],
)
async def test_an_operator_that_bends_the_lines_is_caught(
    room: AuditRoom, bend: Callable[[list[bytes]], Lines], reason: str
) -> None:
    room.log.add(1, model="a")
    await room.grow(8)
    room.record.listed = bend
    assert await _broken(room) == reason


@pytest.mark.attack("H07")
async def test_a_log_that_is_forked_for_this_auditor_alone_is_caught(room: AuditRoom) -> None:
    await room.grow(9)
    fork = room.log.copied()
    fork.lines[4] = _EDITED
    room.record.log = fork  # signed by the log's own key; what the witness has is the other one
    assert await _broken(room) == "log.forked"


@pytest.mark.attack("H07")
async def test_a_record_that_changes_behind_an_auditor_that_remembers_is_caught(
    room: AuditRoom, tmp_path: Path
) -> None:
    await room.grow(9)
    await room.auditor().verify()
    room.log.lines[4] = _EDITED
    room.log.add(2)
    anew = tmp_path / "anew"  # the verifier's operator has it begin anew, with its old key
    anew.mkdir()
    shutil.copy(tmp_path / "witness.key", anew)
    (anew / "witness.db").touch()
    with AuditLog.opened(anew / "audit.db") as audit, opened_witness(anew, audit) as witness:
        room.verifier = VerifierAtHand(witness)
        room.log.old_size = 0
        await room.witness()
        assert await _broken(room) == "log.forked"


@pytest.mark.attack("H07")
async def test_a_head_that_the_provisioner_signed_beside_its_lines_is_caught(room: AuditRoom) -> None:
    await room.grow(9)
    fork = room.log.copied()
    fork.lines[4] = _EDITED
    room.record.head = fork.checkpoint()
    assert await _broken(room) == "log.forked"


@pytest.mark.attack("H07")
async def test_a_witness_that_went_back_or_is_another_is_caught(room: AuditRoom, tmp_path: Path) -> None:
    await room.grow(5)
    early = (tmp_path / "witness.db").read_bytes(), (tmp_path / "witness.db-wal").read_bytes()
    await room.grow(4)
    await room.auditor().verify()
    for name, put_back, reason in (
        ("older", early, "witness.rolled_back"),
        ("other", early, "witness_key.other"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "witness.db").write_bytes(put_back[0])
        (folder / "witness.db-wal").write_bytes(put_back[1])
        if name != "other":
            (folder / "witness.key").write_bytes((tmp_path / "witness.key").read_bytes())
            (folder / "witness.key").chmod(0o600)
        with opened_witness(folder, room.verifier.witness._audit) as witness:
            room.verifier = VerifierAtHand(witness)
            assert await _broken(room) == reason


@pytest.mark.attack("H07")
async def test_at_first_contact_the_witness_is_the_one_that_the_bundle_names(room: AuditRoom) -> None:
    await room.grow(5)
    true = room.verifier.witness.key
    assert (await room.auditor(witness=true).verify()).keys.witnesses == {true}
    room.memory.path.unlink()
    with pytest.raises(LogBroken) as broken:
        await room.auditor(witness=WitnessKey(true.name, bytes(32))).verify()
    assert broken.value.reason == "witness_key.other"
    assert room.memory.read() is None


@pytest.mark.attack("H07")
async def test_a_log_with_another_key_is_caught(room: AuditRoom) -> None:
    await room.grow(5)
    await room.auditor().verify()
    room.log.key = Ed25519PrivateKey.generate()
    assert await _broken(room) == "log_key.other"


async def test_a_line_is_shown_with_its_proof(room: AuditRoom) -> None:
    await room.grow(9)
    proven = await room.auditor().show(4)
    assert (proven.line.sequence, proven.line.record) == (4, room.log.lines[3])
    assert proven.head.head == room.log.head()
    with pytest.raises(NotFound):
        await room.auditor().show(10)


@pytest.mark.attack("H07")
async def test_a_line_that_is_not_in_the_record_is_not_shown_as_if_it_were(room: AuditRoom) -> None:
    await room.grow(9)
    room.record.listed = _edited
    with pytest.raises(LogBroken) as broken:
        await room.auditor().show(4)
    assert broken.value.reason == "proof.invalid"


async def test_a_line_that_is_not_countersigned_yet_is_waited_for(
    room: AuditRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_auditor, "POLL_S", 0.01)
    await room.grow(3)
    room.log.add()
    async with asyncio.TaskGroup() as group:
        shown = group.create_task(room.auditor().show(4))
        await asyncio.sleep(0)
        await room.witness()
    assert shown.result().head.head.size == 4
    monkeypatch.setattr(log_auditor, "LAG_S", 0.0)
    room.log.add()
    with pytest.raises(NotReady):
        await room.auditor().show(5)


async def test_an_owner_sees_its_own_lines_proven(room: AuditRoom) -> None:
    await room.grow(4)
    await room.grow(3, model="mine")
    await room.grow(2)
    room.record.only = "mine"
    audit = await room.auditor(owner=True).verify()
    assert (audit.lines, audit.head.head.size) == (3, 9)
    await room.grow(2, model="mine")
    audit = await room.auditor(owner=True).verify()
    assert (audit.lines, audit.kept_size) == (5, 9)


@pytest.mark.attack("H07")
async def test_an_owner_is_shown_no_line_that_is_not_in_the_record(room: AuditRoom) -> None:
    await room.grow(9)
    room.record.listed = _edited
    assert await _broken(room, owner=True) == "proof.invalid"


@pytest.mark.attack("H07")
async def test_an_owner_too_remembers_what_the_log_was(room: AuditRoom) -> None:
    await room.grow(9)
    await room.auditor(owner=True).verify()
    fork = room.log.copied()
    fork.lines[4] = _EDITED
    room.record.log = fork
    room.verifier.witness._known = None
    room.verifier.witness._lease.end()
    fork.old_size = 0
    await room.witness()
    assert await _broken(room, owner=True) == "log.forked"


async def _resumed_for_owner(room: AuditRoom, keep: int) -> None:
    """An owner looks at nine lines; then all after `keep` are lost, and it goes on."""
    room.record.only = "mine"
    await room.grow(4)
    await room.grow(5, model="mine")
    await room.auditor(owner=True).verify()
    await room.grow(3)
    lost = room.log.head()
    room.log.resume(keep, should_size=lost.size, should_root=lost.root)
    await room.grow(2)


@pytest.mark.attack("H07")
async def test_an_owner_is_told_what_was_lost_and_says_once_that_it_is_known(room: AuditRoom) -> None:
    await _resumed_for_owner(room, keep=6)
    for _ in range(2):
        with pytest.raises(LogBroken, match=r"line 7 says by whom.* of 9 lines that were there 6 are left") as told:
            await room.auditor(owner=True).verify()
        assert told.value.reason == "log.resumed"
    audit = await room.auditor(owner=True).verify(accept_resume=True)
    assert (audit.kept_size, [each.sequence for each in audit.resumed]) == (6, [7])
    await room.grow(2, model="mine")
    again = await room.auditor(owner=True).verify()
    assert again.kept_size == audit.head.head.size


async def test_an_owner_who_lost_nothing_need_not_say_so(room: AuditRoom) -> None:
    await _resumed_for_owner(room, keep=10)
    assert (await room.auditor(owner=True).verify()).kept_size == 9


@pytest.mark.attack("H07")
@pytest.mark.parametrize("accept_resume", [False, True])
async def test_what_an_owner_accepts_hides_nothing_else(room: AuditRoom, *, accept_resume: bool) -> None:
    """A resumption that is not shown, and one that owns up to less than this owner has seen."""
    await _resumed_for_owner(room, keep=6)
    room.record.listed = lambda lines: [None if b"log.resumed" in line else line for line in lines]
    with pytest.raises(LogBroken, match="is not shown"):
        await room.auditor(owner=True).verify(accept_resume=accept_resume)


@pytest.mark.attack("H07")
@pytest.mark.parametrize("hidden", [0, 1])
async def test_nor_does_an_earlier_resumption_stand_for_a_later_one(room: AuditRoom, hidden: int) -> None:
    """Of two resumptions one is shown: the one that the owner knew already, or the one before the newest."""
    await _resumed_for_owner(room, keep=6)
    if hidden:
        await room.auditor(owner=True).verify(accept_resume=True)
    lost = room.log.head()
    room.log.resume(lost.size - 1, should_size=lost.size, should_root=lost.root)
    await room.grow(2)
    (first, second) = (line for line in room.log.lines if b"log.resumed" in line)
    room.record.listed = lambda lines: [None if line == (first, second)[hidden] else line for line in lines]
    with pytest.raises(LogBroken, match="is not shown") as broken:
        await room.auditor(owner=True).verify(accept_resume=True)
    assert broken.value.reason == "log.resumed"
    room.record.listed = list
    audit = await room.auditor(owner=True).verify(accept_resume=True)
    assert len(audit.resumed) == 2


@pytest.mark.attack("H07")
async def test_nor_does_it_hide_that_a_loss_is_not_owned_up_to(room: AuditRoom) -> None:
    """The witness has forgotten, and the log goes on as if eight lines were all that there were."""
    room.record.only = "mine"
    await room.grow(9, model="mine")
    await room.auditor(owner=True).verify()
    fork = room.log.copied(writer=room.log.writer)
    room.verifier.witness._known, fork.old_size = None, 0
    fork.resume(6, should_size=8, should_root=room.log.head(8).root)
    room.record.log = fork
    await room.grow(2)
    with pytest.raises(LogBroken, match="owns up to 8") as broken:
        await room.auditor(owner=True).verify(accept_resume=True)
    assert broken.value.reason == "log.forked"


async def test_followed_lines_come_once_they_are_countersigned(
    room: AuditRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_auditor, "POLL_S", 0.01)
    await room.grow(3)
    found = room.auditor().follow()
    first = await anext(found)
    assert isinstance(first, LogAudit)
    assert first.lines == 3
    await room.grow(2)
    seen = [await anext(found) for _ in range(2)]
    assert [line.sequence for line in seen if isinstance(line, AuditLine)] == [4, 5]
    room.log.lines[1] = _EDITED
    room.log.add()
    room.verifier.witness._known = None
    room.log.old_size = 0
    await room.witness()
    with pytest.raises(LogBroken) as broken:
        await anext(found)
    assert broken.value.reason == "log.forked"


async def _resumed(room: AuditRoom, seen: int, keep: int) -> LogAudit:
    """An audit of `seen` lines, then a loss of all after `keep`, and an audit of what goes on."""
    await room.grow(seen)
    await room.auditor().verify()
    await room.grow(3)
    lost = room.log.head()
    room.log.resume(keep, should_size=lost.size, should_root=lost.root)
    await room.grow(2)
    return await room.auditor().verify()


@pytest.mark.parametrize(("seen", "keep"), [(5, 6), (5, 5), (5, 3)])
async def test_a_log_that_was_resumed_says_what_is_lost(room: AuditRoom, seen: int, keep: int) -> None:
    audit = await _resumed(room, seen, keep)
    assert [(each.sequence, each.lost) for each in audit.resumed] == [(keep + 1, seen + 3 - keep)]
    again = await room.auditor().verify()
    assert again.kept_size == audit.head.head.size


@pytest.mark.attack("H07")
async def test_a_resumption_does_not_hide_a_change_before_the_loss(room: AuditRoom) -> None:
    await room.grow(5)
    await room.auditor().verify()
    await room.grow(3)
    lost = room.log.head()
    room.log.lines[1] = _EDITED
    room.log.resume(6, should_size=lost.size, should_root=lost.root)
    await room.grow(2)
    assert await _broken(room) == "log.forked"


@pytest.mark.attack("H07")
async def test_a_resumption_that_owns_up_to_less_than_was_seen_is_caught(room: AuditRoom) -> None:
    await room.grow(5)
    await room.auditor().verify()
    fork = room.log.copied(writer=room.log.writer)
    del fork.lines[4:]
    room.verifier.witness._known = None
    fork.old_size = 0
    room.record.log = fork
    fork.resume(2, should_size=4, should_root=fork.head(4).root)
    await room.grow(2)
    assert await _broken(room) == "log.forked"


async def test_a_log_without_a_witness_is_believed_for_its_signature_and_what_was_seen(room: AuditRoom) -> None:
    room.log.add(4)
    audit = await room.auditor().verify()
    assert (audit.keys.witnesses, audit.newer) == (frozenset(), 0)
    room.log.lines[1] = _EDITED
    assert await _broken(room) == "log.forked"


async def _exported(room: AuditRoom, path: Path) -> None:
    export = AuditExport(path)
    await room.auditor().verify(export)
    export.write()


async def test_an_exported_record_is_checked_where_there_is_no_mesh(room: AuditRoom, tmp_path: Path) -> None:
    await room.grow(5)
    room.log.add()
    path = tmp_path / "record.jsonl"
    await _exported(room, path)
    stranger = AuditMemory(tmp_path / "nothing.json")
    audit = verify_export(path, stranger)
    assert (audit.lines, audit.newer, audit.is_first_contact, stranger.read()) == (6, 1, True, None)
    await room.witness()
    await room.auditor().verify()
    older = verify_export(path, room.memory)
    assert (older.head.head.size, older.kept_size) == (5, 6)


@pytest.mark.attack("H07")
@pytest.mark.parametrize("broken", ["edited", "removed", "reordered", "truncated", "head"])
async def test_an_exported_record_that_was_changed_is_caught(room: AuditRoom, tmp_path: Path, broken: str) -> None:
    await room.grow(5)
    path = tmp_path / "record.jsonl"
    await _exported(room, path)
    head, *lines = path.read_text().splitlines()
    if broken == "edited":
        lines[2] = json.dumps({"sequence": 3, "record": _EDITED.decode()})
    elif broken == "removed":
        del lines[2]
    elif broken == "reordered":
        lines[0], lines[1] = lines[1], lines[0]
    elif broken == "truncated":
        del lines[4]
    else:
        head = head.replace(f"{room.log.origin}\\n5\\n", f"{room.log.origin}\\n4\\n")
    path.write_text("\n".join((head, *lines, "")))
    with pytest.raises(LogBroken):
        verify_export(path, room.memory)


async def test_what_was_shown_is_kept_most_of_all_where_it_is_wrong(room: AuditRoom, tmp_path: Path) -> None:
    await room.grow(9)
    room.record.listed = _hidden
    path = tmp_path / "record.jsonl"
    export = AuditExport(path)
    with pytest.raises(LogBroken):
        await room.auditor().verify(export)
    export.write()
    assert len(path.read_text().splitlines()) == 5  # the heads, three lines, and the one that should not be next
    with pytest.raises(LogBroken) as broken:
        verify_export(path, room.memory)
    assert broken.value.reason == "line.missing"


@pytest.mark.parametrize("text", ["", "{}", "[]\n", "nothing\n", '{"format":"cloister audit export v1"}\n'])
def test_what_is_no_exported_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidRequest):
        verify_export(path, AuditMemory(tmp_path / "audit.json"))


def test_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        verify_export(tmp_path / "record.jsonl", AuditMemory(tmp_path / "audit.json"))


@pytest.mark.parametrize("text", ["", "{}", '{"format":"cloister audit memory v1"}', "[" * 10_000])
def test_a_memory_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "audit.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InvalidRequest):
        AuditMemory(path).read()


def test_a_memory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text("{}")
    path.chmod(0o666)
    with pytest.raises(NotReady):
        AuditMemory(path).read()
