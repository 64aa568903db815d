from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloister.errors import NotReady, Unavailable
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.models.epoch_store import EpochStore, StoredEpoch
from cloister.provisioner.models.store import ModelStore
from fakes.release_desk import open_ledger
from fakes.stored import ALICE, EPOCH, IRIS, POLICY, failing, written

TWO = replace(EPOCH, number=2, open_until_ms=4_000)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path) as opened:
        ModelStore(opened).register(IRIS, line=written)
        ModelStore(opened).register(replace(IRIS, name="wine"), line=written)
        for name in ("iris", "wine"):
            ModelStore(opened).set_policy(name, POLICY, owner=ALICE, line=written, owner_signed=True)
        yield opened


@pytest.fixture
def store(ledger: Ledger) -> EpochStore:
    return EpochStore(ledger)


def test_those_that_have_not_ended_are_found_newest_first(store: EpochStore) -> None:
    for epoch in (EPOCH, TWO, replace(EPOCH, name="wine")):
        store.begin(epoch, line=written)
    assert store.kept("iris", 0) == [TWO, EPOCH]
    assert store.kept("iris", EPOCH.open_until_ms) == [TWO]
    assert store.ended(EPOCH.open_until_ms - 1) == []
    assert [(epoch.name, epoch.number) for epoch in store.ended(EPOCH.open_until_ms)] == [("iris", 1), ("wine", 1)]


def test_a_number_comes_once_also_after_all_were_destroyed(store: EpochStore) -> None:
    assert store.next_number("iris") == 1
    store.begin(EPOCH, line=written)
    store.destroy([EPOCH], line=_destroyed)
    assert store.kept("iris", 0) == []
    assert (store.next_number("iris"), store.next_number("wine")) == (2, 1)
    store.begin(TWO, line=written)
    with pytest.raises(NotReady):
        store.begin(TWO, line=written)


def test_none_begins_under_a_policy_that_is_in_force_no_longer(ledger: Ledger, store: EpochStore) -> None:
    """As where an owner sets a new one while a release goes on: the newest epoch is never under the older policy."""
    newer = replace(POLICY, version=2, policy=b"newer")
    ModelStore(ledger).set_policy("iris", newer, owner=ALICE, line=written, owner_signed=True)
    with pytest.raises(NotReady) as refused:
        store.begin(EPOCH, line=written)
    assert refused.value.reason == "policy.changed"
    store.begin(replace(EPOCH, policy=newer.policy), line=written)


def test_no_record_no_change(store: EpochStore) -> None:
    with pytest.raises(Unavailable):
        store.begin(EPOCH, line=failing)
    assert (store.kept("iris", 0), store.next_number("iris")) == ([], 1)
    store.begin(EPOCH, line=written)
    with pytest.raises(Unavailable):
        store.destroy([EPOCH], line=_not_written)
    assert store.kept("iris", 0) == [EPOCH]


def test_nothing_of_a_destroyed_one_is_left_on_disk(tmp_path: Path, store: EpochStore) -> None:
    epoch = replace(EPOCH, wrapped_seed=b"wrapped seed of sixty-one bytes, which nobody else would write")
    store.begin(epoch, line=written)

    def on_disk() -> bool:
        return any(epoch.wrapped_seed in path.read_bytes() for path in tmp_path.iterdir())

    assert on_disk()
    store.destroy([epoch], line=_destroyed)
    assert not on_disk()


def test_a_wrapped_seed_hides_in_repr() -> None:
    assert "wwww" not in repr(EPOCH)


def _destroyed(_epoch: StoredEpoch, change: Change) -> int:
    return written(change)


def _not_written(_epoch: StoredEpoch, change: Change) -> int:
    return failing(change)
