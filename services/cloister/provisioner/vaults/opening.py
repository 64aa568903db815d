"""Opens the root keys that the settings name. What only one back end needs is imported where that is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister.errors import NotReady
from cloister.provisioner.vaults import gramine, key_file, passphrase
from cloister.provisioner.vaults.guard import Guard
from cloister.provisioner.vaults.settings import Pkcs11Settings, TransitSettings, VaultSettings
from cloister.provisioner.vaults.vault import Vault


@dataclass(frozen=True, slots=True)
class Opened:
    """The root keys of one table of the settings.

    Attributes:
        back_end: Its name.
        vaults: The newest first; where the back end knows versions, one for each.
        keep_alive: Does what must be done now and then; raises as `Vault`.
    """

    back_end: str
    vaults: Sequence[Vault]
    keep_alive: Callable[[], None]


def open_vault(settings: VaultSettings, state: Path, *, begin: bool) -> Opened:
    """Open what one table names.

    Args:
        settings: Of one root key.
        state: The provisioner's folder.
        begin: Whether a passphrase that was never used here may be taken for a new one.

    Raises:
        NotReady: It is not usable; the message says what to do.
        Unavailable: The back end does not answer (`vault.unavailable`).
    """
    vaults, keep_alive = _opened(settings, state, begin=begin)
    return Opened(settings.back_end, vaults, keep_alive)


def _opened(settings: VaultSettings, state: Path, *, begin: bool) -> tuple[Sequence[Vault], Callable[[], None]]:
    if settings.file is not None:
        return [key_file.open_key_file(settings.file.key_file)], _nothing
    if settings.passphrase is not None:
        return [passphrase.open_passphrase(settings.passphrase, state, begin=begin)], _nothing
    if settings.gramine is not None:
        return [gramine.open_sealing_key(settings.gramine)], _nothing
    if settings.transit is not None:
        return _transit(settings.transit)
    if settings.pkcs11 is not None:
        return [_pkcs11(settings.pkcs11)], _nothing
    raise AssertionError("VaultSettings has checked that it names one")


def _transit(settings: TransitSettings) -> tuple[Sequence[Vault], Callable[[], None]]:
    try:
        from cloister.provisioner.vaults.transit import open_transit
        from cloister.provisioner.vaults.transit_client import TransitClient
    except ImportError as error:
        raise _not_installed("vault.transit", "transit", error) from error
    client = TransitClient(settings)
    guard = Guard("transit", deadline_s=settings.deadline_s)
    return open_transit(settings, client, guard), client.keep_alive


def _pkcs11(settings: Pkcs11Settings) -> Vault:
    try:
        from cloister.provisioner.vaults.pkcs11 import open_pkcs11
    except ImportError as error:
        raise _not_installed("vault.pkcs11", "pkcs11", error) from error
    return open_pkcs11(settings)


def _not_installed(table: str, extra: str, error: ImportError) -> NotReady:
    return NotReady(
        f"{table} needs {error.name}, which is not installed here: pip install 'cloister[{extra}]'",
        reason="vault.not_installed",
    )


def _nothing() -> None:
    """Nothing to keep alive."""
