from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.errors import AlreadyExists, NotFound, Unavailable
from cloister.provisioner.models.store import ModelStore
from cloister.provisioner.models.stored import Owner
from fakes.release_desk import open_ledger
from fakes.signer_sets import signer_set
from fakes.stored import ALICE, BOB, IRIS, POLICY, failing, written


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ModelStore]:
    with open_ledger(tmp_path) as ledger:
        yield ModelStore(ledger)


def test_what_was_registered_is_found_after_a_restart(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        store = ModelStore(ledger)
        assert store.register(IRIS, line=written) == 2
        store.set_policy("iris", POLICY, owner=ALICE, line=written, owner_signed=True)
    with open_ledger(tmp_path) as ledger:
        assert ModelStore(ledger).find("iris") == (IRIS, POLICY)


@pytest.mark.parametrize("owner", [BOB, Owner(ALICE.spiffe_id, BOB.key), Owner(BOB.spiffe_id, ALICE.key)])
def test_a_name_belongs_to_its_first_owner_and_key(store: ModelStore, owner: Owner) -> None:
    store.register(IRIS, line=written)
    with pytest.raises(AlreadyExists):
        store.register(replace(IRIS, version=2, owner=owner), line=written)
    with pytest.raises(NotFound):
        store.set_policy("iris", POLICY, owner=owner, line=written, owner_signed=True)


@pytest.mark.parametrize("version", [1, 2])
def test_model_versions_only_go_up(store: ModelStore, version: int) -> None:
    store.register(replace(IRIS, version=2), line=written)
    with pytest.raises(AlreadyExists) as refused:
        store.register(replace(IRIS, version=version), line=written)
    assert refused.value.reason == "version.not_higher"


@pytest.mark.parametrize("version", [1, 2])
def test_policy_versions_only_go_up(store: ModelStore, version: int) -> None:
    store.register(IRIS, line=written)
    store.set_policy("iris", replace(POLICY, version=2), owner=ALICE, line=written, owner_signed=True)
    with pytest.raises(AlreadyExists):
        store.set_policy("iris", replace(POLICY, version=version), owner=ALICE, line=written, owner_signed=True)


def test_who_signed_is_said_and_not_assumed(store: ModelStore) -> None:
    """It decides whether a model that is held goes on, so there is no answer that holds where nobody gave one."""
    store.register(IRIS, line=written)
    with pytest.raises(TypeError, match="owner_signed"):
        store.set_policy("iris", POLICY, owner=ALICE, line=written)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="owner_signed"):
        store.set_signers(signer_set(1, 1, Ed25519PrivateKey.generate()), b"", owner=ALICE, line=written)  # type: ignore[call-arg]


def test_no_record_no_change(store: ModelStore) -> None:
    with pytest.raises(Unavailable):
        store.register(IRIS, line=failing)
    assert store.owner("iris") is None
    store.register(IRIS, line=written)
    with pytest.raises(Unavailable):
        store.set_policy("iris", POLICY, owner=ALICE, line=failing, owner_signed=True)
    assert store.find("iris") == (IRIS, None)


def test_find_takes_the_newest_or_the_one_asked_for(store: ModelStore) -> None:
    for version in (1, 3, 10):
        store.register(replace(IRIS, version=version), line=written)
    store.set_policy("iris", POLICY, owner=ALICE, line=written, owner_signed=True)
    store.set_policy("iris", replace(POLICY, version=5), owner=ALICE, line=written, owner_signed=True)
    found = {asked: store.find("iris", asked) for asked in (0, 3, 4)}
    assert [entry and (entry[0].version, entry[1].version) for entry in found.values()] == [(10, 5), (3, 5), None]
    assert store.find("other") is None


def test_listing_is_of_one_owner_or_of_all(store: ModelStore) -> None:
    store.register(IRIS, line=written)
    store.register(replace(IRIS, name="digits", owner=BOB), line=written)
    store.set_policy("digits", POLICY, owner=BOB, line=written, owner_signed=True)
    assert [(model.name, policy) for model, policy in store.listing()] == [("digits", POLICY), ("iris", None)]
    assert [model.name for model, _ in store.listing(ALICE.spiffe_id)] == ["iris"]


def test_a_wrapped_key_hides_in_repr() -> None:
    assert "wwww" not in repr(IRIS)
