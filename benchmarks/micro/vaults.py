"""What it costs to wrap and unwrap one secret with each back end of the vault: `make bench-vaults`.

Prints the table of docs/guides/vault.md. The token is SoftHSM2, and Vault is the tests' stand-in, over HTTPS on this
machine: what they take is the least that a real token and a real server can take. One secret at a time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType
from rich.console import Console
from rich.table import Table

from cloister.provisioner.vaults.opening import open_vault
from cloister.provisioner.vaults.settings import (
    KeyFileSettings,
    PassphraseSettings,
    Pkcs11Settings,
    TransitSettings,
    VaultSettings,
)
from cloister.provisioner.vaults.vault import Vault
from fakes.pki import MeshPki
from fakes.running_services import private_file
from fakes.soft_token import PIN, soft_token
from fakes.transit_server import PLAIN_TOKEN, TransitServer, serving
from fakes.vault_contract import KEY, RECORD

RUNS, RUN_S = 5, 0.2
LABEL = "cloister"


def measured(vault: Vault) -> tuple[float, float]:
    """Microseconds for a wrap and for an unwrap: the best of several runs."""
    wrapped = vault.wrap(RECORD, KEY)
    steps = (lambda: vault.wrap(RECORD, KEY)), (lambda: vault.unwrap(RECORD, wrapped))
    wrap_us, unwrap_us = (min(_run(step) for _ in range(RUNS)) for step in steps)
    return wrap_us, unwrap_us


def _run(step: object) -> float:
    assert callable(step)
    turns, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < RUN_S:
        step()
        turns += 1
    return passed / turns * 1e6


def settings(folder: Path, stack: ExitStack) -> Iterator[tuple[str, VaultSettings]]:
    """Each back end that is to be had here, by what it is called in the table."""
    yield "file", VaultSettings(file=KeyFileSettings(key_file=private_file(folder / "root.key", b"r" * 32)))
    passphrase = private_file(folder / "passphrase", b"correct horse battery staple")
    yield "passphrase", VaultSettings(passphrase=PassphraseSettings(passphrase_file=passphrase))
    token = soft_token(folder, stack.enter_context(pytest.MonkeyPatch.context()))
    with pkcs11.lib(token.module).get_token(token_label=LABEL).open(rw=True, user_pin=PIN) as session:
        closed = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
        session.generate_key(KeyType.AES, 256, label="root", id=b"\x01", store=True, template=closed)
    yield (
        "pkcs11 (SoftHSM2)",
        VaultSettings(
            pkcs11=Pkcs11Settings(module=Path(token.module), token=LABEL, key="root", pin_file=token.pin_file)
        ),
    )
    pki = MeshPki()
    (folder / "ca.pem").write_bytes(pki.roots_pem)
    vault = stack.enter_context(serving(TransitServer(), pki, folder))
    yield (
        "transit (stand-in)",
        VaultSettings(
            transit=TransitSettings(
                address=vault.url,
                ca_file=folder / "ca.pem",
                key="cloister",
                token_file=private_file(folder / "token", PLAIN_TOKEN.encode()),
            )
        ),
    )


def main() -> None:
    """Measure and print."""
    table = Table("back end", "wrap", "unwrap", title="Microseconds for one secret of 32 bytes")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for name, found in settings(Path(folder), stack):
            opened = open_vault(found, Path(folder), begin=True).vaults[0]
            table.add_row(name, *(f"{taken_us:.1f}" for taken_us in measured(opened)))
    Console().print(table)


if __name__ == "__main__":
    main()
