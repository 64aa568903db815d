from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloister.errors import AlreadyExists, NotFound, NotReady, Unavailable
from cloister.provisioner.models import ModelStore, Owner, StoredModel, StoredPolicy

ALICE = Owner("spiffe://demo.cloister.internal/owner/alice", b"a" * 32)
BOB = Owner("spiffe://demo.cloister.internal/owner/bob", b"b" * 32)
IRIS = StoredModel(
    name="iris",
    version=1,
    owner=ALICE,
    manifest=b"{}",
    signature=b"s" * 64,
    wrapped_key=b"w" * 61,
    root_key_id="root",
)
POLICY = StoredPolicy(1, b"policy", b"s" * 64)


def written() -> int:
    return 7


def failing() -> int:
    raise Unavailable("the record cannot be written")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ModelStore]:
    with ModelStore.opened(tmp_path / "models.db") as opened:
        yield opened


def test_what_was_registered_is_found_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    with ModelStore.opened(path) as store:
        assert store.register(IRIS, record=written) == 7
        store.set_policy("iris", POLICY, owner=ALICE, record=written)
    with ModelStore.opened(path) as store:
        assert store.find("iris") == (IRIS, POLICY)
        assert store.root_key_ids() == {"root"}


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    with ModelStore.opened(tmp_path / "models.db") as store:
        store.register(IRIS, record=written)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"models.db": 0o600, "models.db-wal": 0o600, "models.db-shm": 0o600}


@pytest.mark.parametrize("owner", [BOB, Owner(ALICE.spiffe_id, BOB.key), Owner(BOB.spiffe_id, ALICE.key)])
def test_a_name_belongs_to_its_first_owner_and_key(store: ModelStore, owner: Owner) -> None:
    store.register(IRIS, record=written)
    with pytest.raises(AlreadyExists):
        store.register(replace(IRIS, version=2, owner=owner), record=written)
    with pytest.raises(NotFound):
        store.set_policy("iris", POLICY, owner=owner, record=written)


@pytest.mark.parametrize("version", [1, 2])
def test_model_versions_only_go_up(store: ModelStore, version: int) -> None:
    store.register(replace(IRIS, version=2), record=written)
    with pytest.raises(AlreadyExists) as refused:
        store.register(replace(IRIS, version=version), record=written)
    assert refused.value.reason == "version.not_higher"


@pytest.mark.parametrize("version", [1, 2])
def test_policy_versions_only_go_up(store: ModelStore, version: int) -> None:
    store.register(IRIS, record=written)
    store.set_policy("iris", replace(POLICY, version=2), owner=ALICE, record=written)
    with pytest.raises(AlreadyExists):
        store.set_policy("iris", replace(POLICY, version=version), owner=ALICE, record=written)


def test_no_record_no_change(store: ModelStore) -> None:
    with pytest.raises(Unavailable):
        store.register(IRIS, record=failing)
    assert store.owner("iris") is None
    store.register(IRIS, record=written)
    with pytest.raises(Unavailable):
        store.set_policy("iris", POLICY, owner=ALICE, record=failing)
    assert store.find("iris") == (IRIS, None)


def test_find_takes_the_newest_or_the_one_asked_for(store: ModelStore) -> None:
    for version in (1, 3, 10):
        store.register(replace(IRIS, version=version), record=written)
    store.set_policy("iris", POLICY, owner=ALICE, record=written)
    store.set_policy("iris", replace(POLICY, version=5), owner=ALICE, record=written)
    found = {asked: store.find("iris", asked) for asked in (0, 3, 4)}
    assert [entry and (entry[0].version, entry[1].version) for entry in found.values()] == [(10, 5), (3, 5), None]
    assert store.find("other") is None


def test_listing_is_of_one_owner_or_of_all(store: ModelStore) -> None:
    store.register(IRIS, record=written)
    store.register(replace(IRIS, name="digits", owner=BOB), record=written)
    store.set_policy("digits", POLICY, owner=BOB, record=written)
    assert [(model.name, policy) for model, policy in store.listing()] == [("digits", POLICY), ("iris", None)]
    assert [model.name for model, _ in store.listing(ALICE.spiffe_id)] == ["iris"]


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    with ModelStore.opened(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NotReady, match="later version"), ModelStore.opened(path):
        pass


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    path.write_bytes(b"not a database, however long it may be" * 100)
    path.chmod(0o600)
    with pytest.raises(NotReady, match="not a model store"), ModelStore.opened(path):
        pass


def test_a_store_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    path.touch(mode=0o644)
    with pytest.raises(NotReady, match="0600"), ModelStore.opened(path):
        pass


def test_a_store_in_no_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable), ModelStore.opened(tmp_path / "nowhere" / "models.db"):
        pass


def test_a_wrapped_key_hides_in_repr() -> None:
    assert "wwww" not in repr(IRIS)
