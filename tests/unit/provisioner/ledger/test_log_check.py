"""All lines, read after a start: what was changed on disk is named."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cloister.errors import LogBroken
from cloister.provisioner.ledger import log_check
from cloister.provisioner.ledger.database import NAME
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.log_check import check, checked
from cloister.tlog.merkle import leaf_hash
from fakes.release_desk import open_ledger


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """Eleven lines, read four at a time."""
    monkeypatch.setattr(log_check, "PAGE_LINES", 4)
    with open_ledger(tmp_path) as opened:
        for number in range(10):
            opened.append("e", number=number)
        yield opened


def edit(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as connection:
        connection.executescript("DROP TRIGGER line_kept; DROP TRIGGER line_stays;")
        connection.execute(statement, values)


async def test_lines_that_nobody_touched_lead_to_the_head(ledger: Ledger) -> None:
    await check(ledger.log)


@pytest.mark.attack("H07")
@pytest.mark.parametrize("sequence", [1, 6, 11])
async def test_a_line_that_was_rewritten_with_its_hash_is_named(
    ledger: Ledger, tmp_path: Path, sequence: int, capsys: pytest.CaptureFixture[str]
) -> None:
    other = b'{"event":"nothing to see"}'
    nodes = leaf_hash(other) + edit_nodes(ledger, sequence)
    edit(tmp_path, "UPDATE line SET record = ?, nodes = ? WHERE sequence = ?", other, nodes, sequence)
    with pytest.raises(LogBroken):
        await check(ledger.log)
    await checked(ledger.log)
    assert "log.damaged" in capsys.readouterr().out


def edit_nodes(ledger: Ledger, sequence: int) -> bytes:
    """The nodes above a line's own, as they are."""
    ((_, _, nodes),) = ledger.log.leaves(sequence - 1, sequence, 1)
    return nodes[32:]


@pytest.mark.attack("H07")
@pytest.mark.parametrize("sequence", [1, 6, 11])
async def test_a_line_that_was_taken_out_is_named(ledger: Ledger, tmp_path: Path, sequence: int) -> None:
    edit(tmp_path, "DELETE FROM line WHERE sequence = ?", sequence)
    with pytest.raises(LogBroken, match=f"line {sequence} "):
        await check(ledger.log)


@pytest.mark.attack("H07")
@pytest.mark.attack("F14")
def test_a_line_that_was_hidden_by_rewriting_it_is_not_passed_over_by_who_counts(
    ledger: Ledger, tmp_path: Path
) -> None:
    """An owner's bound of releases in an hour is held by the newest lines."""
    for number in range(3):
        ledger.append("key.released", number=number)
    assert [each.sequence for each in ledger.log.newest(3)] == [12, 13, 14]
    hidden = ledger.log.line(13).replace(b"key.released", b"key.nonesuch")
    edit(tmp_path, "UPDATE line SET record = ?, nodes = ? WHERE sequence = 13", hidden, leaf_hash(hidden))
    assert next(each.record for each in ledger.log.records(12)) == hidden, "each line is whole by itself"
    with pytest.raises(LogBroken) as refused:
        list(ledger.log.newest(3))
    assert refused.value.reason == "line.altered"
