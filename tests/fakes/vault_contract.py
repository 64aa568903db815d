"""What every back end of the vault must do, whatever it is made of; a test module takes it by inheriting.

class TestKeyFile(VaultContract): ...   # and a fixture `vault`
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest

from cloister.errors import SealBroken
from cloister.provisioner.vaults.vault import EpochId, RecordId, Vault
from cloister.seal.keys import Secret

RECORD = RecordId(model_name="iris", model_version=1, manifest_sha256=b"m" * 32, owner_key=b"o" * 32)
EPOCH = EpochId(
    model_name="iris",
    epoch=1,
    suite="xwing",
    began_ms=1,
    seal_until_ms=2,
    open_until_ms=3,
    policy_sha256=b"p" * 32,
    owner_key=b"o" * 32,
)
KEY = Secret(bytes(range(32)))
CHANGES: tuple[dict[str, Any], ...] = (
    {"model_name": "other"},
    {"model_version": 2},
    {"manifest_sha256": b"x" * 32},
    {"owner_key": b"x" * 32},
)


class VaultContract:
    """Give it a fixture `vault`."""

    def test_a_key_comes_back(self, vault: Vault) -> None:
        wrapped = vault.wrap(RECORD, KEY)
        assert KEY.reveal() not in wrapped
        assert vault.unwrap(RECORD, wrapped) == KEY

    def test_secrets_of_any_length_come_back(self, vault: Vault) -> None:
        for length in (1, 32, 64, 5000):
            secret = Secret(secrets.token_bytes(length))
            assert vault.unwrap(EPOCH, vault.wrap(EPOCH, secret)) == secret

    def test_two_wraps_of_one_key_differ(self, vault: Vault) -> None:
        assert vault.wrap(RECORD, KEY) != vault.wrap(RECORD, KEY)

    @pytest.mark.attack("F09")
    @pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
    def test_a_key_opens_for_its_own_record_only(self, vault: Vault, change: dict[str, Any]) -> None:
        wrapped = vault.wrap(RECORD, KEY)
        with pytest.raises(SealBroken):
            vault.unwrap(replace(RECORD, **change), wrapped)

    @pytest.mark.attack("F09")
    def test_a_key_of_one_kind_of_record_is_none_of_another(self, vault: Vault) -> None:
        with pytest.raises(SealBroken):
            vault.unwrap(EPOCH, vault.wrap(RECORD, KEY))

    @pytest.mark.attack("F09")
    def test_any_changed_byte_is_noticed(self, vault: Vault) -> None:
        wrapped = vault.wrap(RECORD, KEY)
        for position in range(len(wrapped)):
            changed = bytearray(wrapped)
            changed[position] ^= 1 << position % 8
            with pytest.raises(SealBroken):
                vault.unwrap(RECORD, bytes(changed))
        assert vault.unwrap(RECORD, wrapped) == KEY

    @pytest.mark.attack("F09")
    def test_what_is_cut_off_or_longer_does_not_open(self, vault: Vault) -> None:
        wrapped = vault.wrap(RECORD, KEY)
        for changed in (b"", wrapped[:1], wrapped[:3], wrapped[:20], wrapped[:-1], wrapped + b"\0"):
            with pytest.raises(SealBroken):
                vault.unwrap(RECORD, changed)

    def test_its_name_stays_and_tells_nothing(self, vault: Vault) -> None:
        assert vault.key_id() == vault.key_id()
        assert vault.key_id().isprintable()
        assert 0 < len(vault.key_id()) <= 200
