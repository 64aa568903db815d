"""The vault over a real HashiCorp Vault, or OpenBao, where one is to be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloister.provisioner.vaults.opening import open_vault
from cloister.provisioner.vaults.settings import TransitSettings, VaultSettings
from cloister.provisioner.vaults.vault import Vault
from fakes.running_services import private_file
from fakes.vault_contract import VaultContract

if "VAULT_ADDR" not in os.environ:
    pytest.skip(
        "a live Vault: set VAULT_ADDR, VAULT_CACERT, VAULT_TOKEN, and VAULT_TRANSIT_KEY to a key made for this",
        allow_module_level=True,
    )


class TestLiveVault(VaultContract):
    """The contract, over its Transit engine."""

    @pytest.fixture
    def vault(self, tmp_path: Path) -> Vault:
        settings = TransitSettings(
            address=os.environ["VAULT_ADDR"],
            ca_file=Path(os.environ["VAULT_CACERT"]),
            key=os.environ["VAULT_TRANSIT_KEY"],
            namespace=os.environ.get("VAULT_NAMESPACE", ""),
            token_file=private_file(tmp_path / "token", os.environ["VAULT_TOKEN"].encode()),
        )
        return open_vault(VaultSettings(transit=settings), tmp_path, begin=True).vaults[0]
