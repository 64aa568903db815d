from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cloister.cli.audit_words import audit_plain, line_title, verdict
from cloister.client.log_audit import LogAudit
from cloister.client.log_checks import Resumed
from cloister.client.operator import AuditLine
from cloister.kit.log_origin import Resumption
from fakes.shown_record import audit_room


async def _audit(folder: Path, lines: int = 3) -> LogAudit:
    with audit_room(folder) as room:
        await room.grow(lines)
        room.log.add(1)
        return await room.auditor().verify()


async def test_what_was_found_is_one_sentence_and_what_must_not_be_missed(tmp_path: Path) -> None:
    audit = await _audit(tmp_path)
    good, warnings = verdict(audit, memory="audit.json")
    assert good.startswith("good: 4 lines, under a head of 3 that the log signed and demo.cloister.internal/verifier (")
    assert good.endswith("1 of the lines are newer, and come under the next head")
    (pinned,) = warnings
    assert all(part in pinned for part in ("first contact", "audit.json", audit.keys.log.hex()))
    _, (file,) = verdict(audit, source="record.jsonl")
    assert "nobody vouches for" in file


async def test_a_later_audit_says_what_has_not_changed_and_an_older_file_what_was_seen(tmp_path: Path) -> None:
    audit = await _audit(tmp_path)
    later = verdict(replace(audit, kept_size=2))
    assert "nothing has changed in the 2 that were seen here before" in later[0]
    assert later[1] == []
    older = verdict(replace(audit, kept_size=9))
    assert "changed" not in older[0]
    assert older[1] == ["older than what was seen here before, which was 9 lines"]


async def test_losses_are_told_each_time(tmp_path: Path) -> None:
    audit = await _audit(tmp_path)
    said = Resumption("demo.cloister.internal/provisioner/1", should_size=9, should_root=bytes(32), have_size=5)
    resumed = replace(audit, kept_size=3, resumed=(Resumed(6, said),))
    _, (lost,) = verdict(resumed)
    assert lost.startswith("line 6: ")
    assert "4 countersigned lines after line 5 are gone" in lost
    assert audit_plain(resumed)["resumed"] == [{"line": 6, "had": 9, "kept": 5, "lost": 4}]


async def test_a_record_without_a_witness_says_what_that_is_worth(tmp_path: Path) -> None:
    with audit_room(tmp_path) as room:
        room.log.add(2)
        audit = await room.auditor().verify()
    good, warnings = verdict(replace(audit, kept_size=2))
    assert "countersigned" not in good
    assert "no witness countersigns this record" in warnings[0]


def test_a_line_says_what_it_means() -> None:
    said = {"event": "key.refused", "model": "digits", "version": 2, "reason": "hardware.simulated"}
    assert line_title(AuditLine(1, said, bytes(32))) == (
        "Key of digits@2 refused: its hardware is simulated, and its owner's policy allows none"
    )
    assert line_title(AuditLine(1, {"event": "log.begun", "origin": "a/provisioner/1"}, bytes(32))) == (
        "The record of a/provisioner/1 begun"
    )
