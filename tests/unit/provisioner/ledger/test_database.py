"""The file that the provisioner keeps its state in, and files that it refuses."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from cloister.errors import NotReady, Unavailable
from cloister.provisioner.ledger import database
from cloister.provisioner.ledger.database import NAME, Database
from cloister.provisioner.models.epoch_store import EpochStore
from cloister.provisioner.models.store import ModelStore
from fakes.release_desk import keyring, open_ledger
from fakes.stored import ALICE, EPOCH, IRIS, POLICY, written


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ModelStore(ledger).register(IRIS, line=written)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {NAME: 0o600, f"{NAME}-wal": 0o600, f"{NAME}-shm": 0o600}


def test_every_root_key_that_wrapped_something_is_known(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ModelStore(ledger).register(IRIS, line=written)
        ModelStore(ledger).set_policy("iris", POLICY, owner=ALICE, line=written, owner_signed=True)
        EpochStore(ledger).begin(EPOCH, line=written)
    with Database.opened(tmp_path / NAME) as database:
        assert database.root_key_ids() == {IRIS.root_key_id, EPOCH.root_key_id, keyring().wrapping_id}


def test_a_later_version_goes_on_with_this_state_and_this_one_leaves_its_state_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_ledger(tmp_path) as ledger:
        ModelStore(ledger).register(IRIS, line=written)
    with monkeypatch.context() as later:
        later.setattr(database, "_SCHEMAS", (*database._SCHEMAS, "CREATE TABLE later (x INTEGER) STRICT;"))
        with open_ledger(tmp_path) as ledger:
            ModelStore(ledger).set_policy("iris", POLICY, owner=ALICE, line=written, owner_signed=True)
    refused = pytest.raises(NotReady, match=r"later version .* form is 2, and 1 is .* start that version")
    with refused, Database.opened(tmp_path / NAME):
        pass
    with monkeypatch.context() as later:
        later.setattr(database, "_SCHEMAS", (*database._SCHEMAS, "CREATE TABLE later (x INTEGER) STRICT;"))
        with open_ledger(tmp_path) as ledger:
            assert ModelStore(ledger).find("iris") == (IRIS, POLICY)


def test_tables_are_as_they_were_released(tmp_path: Path) -> None:
    """What has changed comes as a further form of the file: who has a state of 0.1.0 has these tables."""
    with Database.opened(tmp_path / NAME) as opened:
        found = opened.writing.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name")
        digest = sha256("\n".join(sql for (sql,) in found).encode()).hexdigest()
        assert opened.writing.execute("PRAGMA user_version").fetchone() == (1,)
    assert digest == "4754480a44bd4d05dc594b69f71ab27f3ccf52bf1f36495a9d61244ad98e3978"


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(b"not a database, however long it may be" * 100)
    path.chmod(0o600)
    with pytest.raises(NotReady, match="not a provisioner's state"), Database.opened(path):
        pass


def test_a_store_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.touch(mode=0o644)
    with pytest.raises(NotReady, match="0600"), Database.opened(path):
        pass


def test_a_store_in_no_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable), Database.opened(tmp_path / "nowhere" / NAME):
        pass


def test_another_process_that_closes_the_file_leaves_the_log_that_ours_writes_to(tmp_path: Path) -> None:
    """SQLite deletes it with the last connection, and knows by locks on the file whether there is another one."""
    path = tmp_path / NAME
    with Database.opened(path) as database:
        database.writing.execute("INSERT INTO model VALUES ('iris', 'owner', X'00')")
        look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM model'); c.close()"
        subprocess.run([sys.executable, "-c", look, path], check=True)
        assert path.with_name(f"{NAME}-wal").exists()
