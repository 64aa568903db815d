"""A start on a state that somebody has had in his hands: what is not as the log says is named, and not used."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cloister.errors import CloisterError, LogBroken, NotReady, SealBroken
from cloister.provisioner.ledger.database import NAME, Database
from cloister.provisioner.ledger.opening import opened
from cloister.provisioner.ledger.tables import POLICY, Key
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.root_key import RootKeyVault
from cloister.seal.keys import Secret
from fakes.release_desk import ReleaseDesk, keyring, open_ledger, release_desk
from fakes.results import CLUSTER, MODEL


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The state of a provisioner that has registered a model with two policies, and was stopped."""
    with release_desk(tmp_path) as desk:
        desk.allow(version=2)
    return tmp_path


def edit(folder: Path, *statements: str) -> None:
    """Change the file as whoever has the disk."""
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as connection:
        connection.executescript("DROP TRIGGER line_kept; DROP TRIGGER line_stays;" + ";".join(statements))


def why_not(folder: Path, **changes: Any) -> CloisterError:
    with pytest.raises(CloisterError) as refused, Database.opened(folder / NAME) as database:  # noqa: SIM117
        with opened(database, changes.get("keyring", keyring()), cluster=changes.get("cluster", CLUSTER)):
            pass
    return refused.value


def test_what_nobody_touched_opens(stopped: Path) -> None:
    with open_ledger(stopped) as ledger, ledger.looking() as look:
        assert look.newest(POLICY, MODEL) == 2


@pytest.mark.attack("F09")
@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("UPDATE policy SET signature = zeroblob(64) WHERE version = 2", "policy/iris/2"),
        ("DELETE FROM policy WHERE version = 2", "policy/iris/2"),
        (
            "UPDATE policy SET (policy, signature) = (SELECT policy, signature FROM policy WHERE version = 1)",
            "policy/iris/2",
        ),
        ("INSERT INTO policy SELECT name, 3, policy, signature FROM policy WHERE version = 1", "policy/iris/3"),
        ("UPDATE model SET owner = 'mallory'", "model/iris"),
        ("UPDATE model_version SET manifest = x'00'", "model_version/iris/2"),
    ],
)
def test_a_row_that_was_edited_swapped_put_in_or_deleted_is_named_at_the_start_and_not_used(
    stopped: Path, capsys: pytest.CaptureFixture[str], statement: str, row: str
) -> None:
    edit(stopped, statement)
    with open_ledger(stopped) as ledger:
        said = capsys.readouterr().out
        assert "store.altered" in said
        assert f"row={row}" in said
        with pytest.raises(SealBroken) as refused:
            find(ReleaseDesk(stopped, ledger), row)
        assert refused.value.reason == "store.altered"


def find(desk: ReleaseDesk, row: str) -> None:
    """Use a row."""
    table, name, *number = row.split("/")
    if table == "policy" and number == ["3"]:
        with desk.ledger.looking() as look:
            look.get(POLICY, Key(name, 3))
    desk.store.find(name)


@pytest.mark.attack("F09")
@pytest.mark.parametrize(
    "statements",
    [
        ("DELETE FROM vouched WHERE tbl = 'policy' AND number = 2", "DELETE FROM policy WHERE version = 2"),
        ("UPDATE vouched SET sha256 = zeroblob(32)",),
        ("UPDATE vouched SET sequence = sequence - 1",),
        ("INSERT INTO vouched VALUES ('nothing', 'iris', 1, 1, zeroblob(32))",),
        ("UPDATE head SET mac = zeroblob(32)",),
        ("UPDATE head SET released_ms = 1",),
        ("UPDATE head SET resumed = 2",),
        ("DELETE FROM head",),
        ("DELETE FROM log_key",),
        ("UPDATE log_key SET public = zeroblob(32)",),
        ("UPDATE log_key SET wrapped_key = zeroblob(61)",),
    ],
)
def test_an_index_or_head_that_was_edited_is_no_start(stopped: Path, statements: tuple[str, ...]) -> None:
    """Rows alone, or rows and index together, as whoever knows the file would do it."""
    edit(stopped, *statements)
    assert why_not(stopped).reason == "store.altered"


@pytest.mark.attack("F09")
@pytest.mark.attack("H07")
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM line WHERE sequence = 4", "log.truncated"),
        ("DELETE FROM line", "log.truncated"),
        ("INSERT INTO line SELECT 5, record, nodes FROM line WHERE sequence = 4", "log.truncated"),
        ("UPDATE line SET nodes = zeroblob(length(nodes)) WHERE sequence = 4", "line.altered"),
        ("UPDATE line SET nodes = x'' WHERE sequence = 4", "log.truncated"),
        ("UPDATE head SET checkpoint = replace(checkpoint, char(10) || '4', char(10) || '3')", "signature.invalid"),
        ("UPDATE head SET checkpoint = 'none'", "checkpoint.malformed"),
    ],
)
def test_a_log_that_does_not_lead_to_its_signed_head_is_no_start(stopped: Path, statement: str, reason: str) -> None:
    edit(stopped, statement)
    refused = why_not(stopped)
    assert isinstance(refused, LogBroken)
    assert refused.reason == reason


@pytest.mark.attack("F09")
def test_tables_of_an_older_copy_do_not_fit_todays_log(stopped: Path, tmp_path: Path) -> None:
    """Rows, index and head of an hour ago beside the lines of now."""
    older = tmp_path / "older.db"
    shutil.copy(stopped / NAME, older)
    with open_ledger(stopped) as ledger:
        ledger.append("e")
    put_back = "DELETE FROM main.{0}; INSERT INTO main.{0} SELECT * FROM older.{0}"
    edit(stopped, f"ATTACH '{older}' AS older", *map(put_back.format, ("vouched", "head")))
    assert why_not(stopped).reason == "log.truncated"


def test_the_state_of_another_cluster_is_no_start(stopped: Path) -> None:
    assert why_not(stopped, cluster="other.cloister.internal").reason == "store.altered"


def test_a_log_key_under_another_root_key_does_not_open(stopped: Path) -> None:
    refused = why_not(stopped, keyring=Keyring([RootKeyVault(Secret(b"x" * 32))]))
    assert isinstance(refused, NotReady)
