"""The two files of earlier versions: taken over whole, once, wherever the first start was killed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cloister.errors import LogBroken, NotReady
from cloister.provisioner.ledger.database import NAME
from cloister.provisioner.ledger.earlier_files import EarlierFiles
from cloister.provisioner.ledger.tables import MODEL, Key
from cloister.provisioner.models.epoch_store import EpochStore
from cloister.provisioner.models.store import ModelStore
from fakes.earlier_state import write_earlier
from fakes.release_desk import keyring, open_ledger
from fakes.stored import EPOCH, IRIS, POLICY

MODEL_THEN = replace(IRIS, root_key_id=keyring().wrapping_id)
EPOCH_THEN = replace(EPOCH, root_key_id=keyring().wrapping_id)


def test_everything_is_taken_over_once_and_the_files_are_gone(tmp_path: Path) -> None:
    write_earlier(tmp_path, MODEL_THEN, EPOCH_THEN)
    for _ in range(2):
        with open_ledger(tmp_path) as ledger:
            found = ModelStore(ledger).find("iris")
            assert found is not None
            model, policy = found
            assert (model.wrapped_key, model.owner, policy) == (IRIS.wrapped_key, IRIS.owner, POLICY)
            (epoch,) = EpochStore(ledger).kept("iris", 0)
            assert (epoch.wrapped_seed, epoch.open_until_ms) == (EPOCH.wrapped_seed, EPOCH.open_until_ms)
            assert EpochStore(ledger).next_number("iris") == 2
            events = [json.loads(entry.record)["event"] for entry in ledger.log.records()]
            assert events == ["model.registered", "policy.set", "key.released", "state.taken_over", "log.begun"]
        assert {path.name for path in tmp_path.iterdir()} == {NAME}


def test_the_first_version_had_no_epochs(tmp_path: Path) -> None:
    write_earlier(tmp_path, MODEL_THEN)
    with open_ledger(tmp_path) as ledger:
        assert EpochStore(ledger).kept("iris", 0) == []
        assert ModelStore(ledger).find("iris") is not None


def test_more_rows_than_a_line_holds(tmp_path: Path) -> None:
    write_earlier(tmp_path, MODEL_THEN, EPOCH_THEN)
    with closing(sqlite3.connect(tmp_path / "models.db")) as connection:
        connection.executemany("INSERT INTO model VALUES (?, 'x', zeroblob(32))", [(f"m{n}",) for n in range(250)])
        connection.commit()
    with open_ledger(tmp_path) as ledger, ledger.looking() as look:
        assert len(look.names(MODEL)) == 251
    with open_ledger(tmp_path) as ledger:
        events = [json.loads(entry.record)["event"] for entry in ledger.log.records(after=3)]
        assert events == ["state.taken_over"] * 3 + ["log.begun"]


def test_files_that_were_set_aside_before_a_kill_are_taken_over(tmp_path: Path) -> None:
    write_earlier(tmp_path, MODEL_THEN, EPOCH_THEN)
    EarlierFiles(tmp_path).set_aside(begun=False)
    with open_ledger(tmp_path) as ledger, ledger.looking() as look:
        assert look.get(MODEL, Key("iris")) is not None


def test_files_that_were_taken_over_before_a_kill_are_taken_away(tmp_path: Path) -> None:
    with open_ledger(tmp_path):
        pass
    (tmp_path / "models.db.earlier").touch()
    with open_ledger(tmp_path):
        assert not (tmp_path / "models.db.earlier").exists()


def test_a_file_that_turns_up_again_is_neither_used_nor_taken_away(tmp_path: Path) -> None:
    with open_ledger(tmp_path):
        pass
    write_earlier(tmp_path, MODEL_THEN, EPOCH_THEN)
    with pytest.raises(NotReady, match="take one of both away"), open_ledger(tmp_path):
        pass
    assert (tmp_path / "models.db").exists()


def test_a_record_with_a_gap_is_refused_and_kept(tmp_path: Path) -> None:
    write_earlier(tmp_path, MODEL_THEN, EPOCH_THEN)
    with closing(sqlite3.connect(tmp_path / "audit.db")) as connection:
        connection.executescript("DROP TRIGGER records_stay; DELETE FROM records WHERE sequence = 2")
    for _ in range(2):
        with pytest.raises(LogBroken), open_ledger(tmp_path):
            pass


def test_keys_under_another_root_key_are_left_as_they_are(tmp_path: Path) -> None:
    write_earlier(tmp_path, replace(IRIS, root_key_id="another"))
    for _ in range(2):
        with pytest.raises(NotReady) as refused, open_ledger(tmp_path):
            pass
        assert refused.value.reason == "root_key.other"
