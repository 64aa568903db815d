"""The file that the provisioner keeps its state in, and files that it refuses."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cloister.errors import NotReady, Unavailable
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
        ModelStore(ledger).set_policy("iris", POLICY, owner=ALICE, line=written)
        EpochStore(ledger).begin(EPOCH, line=written)
    with Database.opened(tmp_path / NAME) as database:
        assert database.root_key_ids() == {IRIS.root_key_id, EPOCH.root_key_id, keyring().wrapping_id}


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with Database.opened(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NotReady, match="later version"), Database.opened(path):
        pass


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
