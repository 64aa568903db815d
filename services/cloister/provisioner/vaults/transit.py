"""The root key is a key of HashiCorp Vault's Transit engine. Each of its versions is a root key of its own here.

A version's name holds when it was made, which Vault tells: a key that was deleted and made again under the same name is
another one. Each request names its version and is bound to the record (`associated_data`, for AEAD ciphers).
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from typing import Any, Final

from hvac import exceptions

from cloister.errors import CloisterError, NotReady, SealBroken
from cloister.kit.log import get_logger
from cloister.provisioner.vaults.enveloped import EnvelopedVault
from cloister.provisioner.vaults.guard import Guard
from cloister.provisioner.vaults.settings import TransitSettings
from cloister.provisioner.vaults.transit_client import Answer, TransitClient
from cloister.provisioner.vaults.vault import REFUSED
from cloister.seal.keys import Secret

TYPES: Final = frozenset({"aes256-gcm96", "chacha20-poly1305"})
_CIPHERTEXT: Final = re.compile(r"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+={0,2})")
_BROKEN: Final = re.compile(r"invalid ciphertext(?!.*too new)|message authentication failed")
"""How Vault says that a ciphertext is not what it gave out; in other words it says why it will not look at it."""

_log = get_logger()


class TransitVersion:
    """One version of a key; see `KeyKeeper`.

    Args:
        made_at: Unix time of its making.
        derived: Whether the key is one that wants a context for each use.
    """

    def __init__(
        self, client: TransitClient, settings: TransitSettings, *, version: int, made_at: int, derived: bool
    ) -> None:
        self._client = client
        self._key = settings.key
        self._mount = settings.mount.strip("/")
        self._version = version
        self._derived = derived
        self._key_id = f"transit:{self._mount}/{settings.key}:v{version}:{made_at}"

    def key_id(self) -> str:
        """See `KeyKeeper`."""
        return self._key_id

    def wrap_key(self, key: Secret, aad: bytes) -> bytes:
        """See `KeyKeeper`."""
        plaintext = base64.b64encode(key.view).decode()
        try:
            answer = self._client.ask(
                lambda vault: vault.secrets.transit.encrypt_data(
                    self._key, plaintext=plaintext, key_version=self._version, **self._bound_to(aad)
                )
            )
        except exceptions.InvalidRequest as error:
            raise _refused(error) from error
        found = _CIPHERTEXT.fullmatch(str(answer.get("ciphertext")))
        if found is None or int(found[1]) != self._version:
            raise NotReady("Vault did not wrap under the version that it was asked for", reason=REFUSED)
        return base64.b64decode(found[2])

    def unwrap_key(self, wrapped: bytes, aad: bytes) -> Secret:
        """See `KeyKeeper`."""
        ciphertext = f"vault:v{self._version}:{base64.b64encode(wrapped).decode()}"
        try:
            answer = self._client.ask(
                lambda vault: vault.secrets.transit.decrypt_data(self._key, ciphertext, **self._bound_to(aad))
            )
            return Secret(base64.b64decode(str(answer.get("plaintext", "")), validate=True))
        except exceptions.InvalidRequest as error:
            if _BROKEN.search(str(error.args[0])):
                raise SealBroken from None
            raise _refused(error) from error
        except binascii.Error as error:
            raise NotReady("Vault gave back what is no base64", reason=REFUSED) from error

    def _bound_to(self, aad: bytes) -> dict[str, str]:
        bound = {"mount_point": self._mount, "associated_data": base64.b64encode(aad).decode()}
        return {**bound, "context": bound["associated_data"]} if self._derived else bound


def open_transit(settings: TransitSettings, client: TransitClient, guard: Guard) -> list[EnvelopedVault]:
    """All versions of the key that Vault still opens, the newest first.

    Raises:
        NotReady: There is no such key, it is none that we can use, or Vault does not let us look (`vault.refused`).
        Unavailable: Vault does not answer (`vault.unavailable`).
    """
    mount = settings.mount.strip("/")
    try:
        found = guard.call(lambda: client.ask(lambda vault: vault.secrets.transit.read_key(settings.key, mount)))
    except exceptions.InvalidRequest as error:
        raise _refused(error) from error
    derived = _usable(found, settings.key)
    versions = _versions(found)
    return [
        EnvelopedVault(
            TransitVersion(client, settings, version=number, made_at=versions[number], derived=derived), guard
        )
        for number in sorted(versions, reverse=True)
    ]


def _usable(found: Answer, key: str) -> bool:
    """Check that a key is one to wrap with; returns whether it is derived."""
    if found.get("type") not in TYPES:
        raise NotReady(f"the Transit key '{key}' must be of type {' or '.join(sorted(TYPES))}", reason=REFUSED)
    if found.get("convergent_encryption") is True:
        raise NotReady(f"the Transit key '{key}' encrypts convergently, and must not", reason=REFUSED)
    if found.get("exportable") is True or found.get("allow_plaintext_backup") is True:
        _log.warning("vault.exportable", back_end="transit", key=key, meaning="Vault may hand this root key out")
    return found.get("derived") is True


def _versions(found: Answer) -> dict[int, int]:
    """Numbers of the versions that may be opened, each with when it was made."""
    try:
        least = max(1, int(found.get("min_decryption_version", 1)))
        versions = {int(number): _unix(made) for number, made in found["keys"].items() if int(number) >= least}
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise NotReady("Vault does not tell which versions a Transit key has", reason=REFUSED) from error
    if not versions:
        raise NotReady("the Transit key has no version that may be opened", reason=REFUSED)
    return versions


def _unix(made: Any) -> int:
    """When a version was made: Unix time, or, as derived keys have it, a table with a date and time."""
    if isinstance(made, dict):
        return int(datetime.fromisoformat(re.sub(r"\.\d+", "", str(made["creation_time"]))).timestamp())
    return int(made)


def _refused(error: exceptions.InvalidRequest) -> CloisterError:
    said = str(error.args[0])[:200]
    return NotReady(f"Vault refuses: {said}", reason=REFUSED)
