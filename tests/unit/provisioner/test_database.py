"""The file that the provisioner keeps its state in, and files that it refuses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cloister.errors import NotReady, Unavailable
from cloister.provisioner.database import _MODELS, Database
from cloister.provisioner.epoch_store import EpochStore
from cloister.provisioner.models import ModelStore
from fakes.stored import ALICE, EPOCH, IRIS, POLICY, written


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    with Database.opened(tmp_path / "models.db") as database:
        ModelStore(database).register(IRIS, record=written)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"models.db": 0o600, "models.db-wal": 0o600, "models.db-shm": 0o600}


def test_a_file_of_the_first_version_is_brought_up_to_this_one(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    path.touch(mode=0o600)
    connection = sqlite3.connect(path)
    connection.executescript(f"BEGIN; {_MODELS} PRAGMA user_version = 1; COMMIT;")
    connection.execute("INSERT INTO model VALUES (?, ?, ?)", (IRIS.name, IRIS.owner.spiffe_id, IRIS.owner.key))
    connection.execute("INSERT INTO policy VALUES ('iris', 1, ?, ?)", (POLICY.policy, POLICY.signature))
    connection.commit()
    connection.close()
    for _ in range(2):
        with Database.opened(path) as database:
            assert ModelStore(database).owner("iris") == IRIS.owner
            assert EpochStore(database).kept("iris", 0) == []


def test_every_root_key_that_wrapped_something_is_known(tmp_path: Path) -> None:
    with Database.opened(tmp_path / "models.db") as database:
        ModelStore(database).register(IRIS, record=written)
        ModelStore(database).set_policy("iris", POLICY, owner=ALICE, record=written)
        EpochStore(database).begin(EPOCH, record=written)
        assert database.root_key_ids() == {IRIS.root_key_id, EPOCH.root_key_id}


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    with Database.opened(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NotReady, match="later version"), Database.opened(path):
        pass


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    path.write_bytes(b"not a database, however long it may be" * 100)
    path.chmod(0o600)
    with pytest.raises(NotReady, match="not a model store"), Database.opened(path):
        pass


def test_a_store_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    path.touch(mode=0o644)
    with pytest.raises(NotReady, match="0600"), Database.opened(path):
        pass


def test_a_store_in_no_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable), Database.opened(tmp_path / "nowhere" / "models.db"):
        pass
