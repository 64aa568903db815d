"""The root key is made of a passphrase, with Argon2id (RFC 9106).

Salt and cost lie beside the state, with the name of the root key that they give: so a wrong passphrase is known for
one at the start, and a later change of the defaults changes nothing for what is there.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from cloister.errors import NotReady
from cloister.kit.environment import inside_enclave
from cloister.provisioner.vaults.root_key import ROOT_KEY_BYTES, RootKeyVault
from cloister.provisioner.vaults.settings import PassphraseSettings, check_cost
from cloister.rpc.files import read_private, replace_private
from cloister.seal.keys import Secret

KEPT: Final = "passphrase.json"
"""Name of the file in the state's folder."""
LEAST_BYTES: Final = 12
_SALT_BYTES: Final = 16
_KIB_PER_MIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Derivation:
    """How one root key is made of its passphrase.

    Attributes:
        salt: 16 bytes in hex.
        root_key: Name of what comes out.
    """

    salt: str
    memory_mib: int
    passes: int
    lanes: int
    root_key: str = ""

    def __post_init__(self) -> None:
        """Check what a file said, before it costs anything; raises ValueError."""
        check_cost(memory_mib=self.memory_mib, passes=self.passes, lanes=self.lanes)
        if len(bytes.fromhex(self.salt)) != _SALT_BYTES:
            raise ValueError("salt")

    def vault(self, passphrase: Secret) -> RootKeyVault:
        """The root key that this passphrase gives, be it the right one or not."""
        root = bytearray(ROOT_KEY_BYTES)
        Argon2id(
            salt=bytes.fromhex(self.salt),
            length=ROOT_KEY_BYTES,
            iterations=self.passes,
            lanes=self.lanes,
            memory_cost=self.memory_mib * _KIB_PER_MIB,
        ).derive_into(passphrase.reveal(), root)
        return RootKeyVault(Secret.taken(root))


def open_passphrase(settings: PassphraseSettings, state: Path, *, begin: bool) -> RootKeyVault:
    """Make the root key of the passphrase in its file.

    Args:
        settings: Name the file, and what a new passphrase costs.
        state: The folder that salts are kept in.
        begin: Whether a passphrase that was never used here is taken for a new one.

    Raises:
        NotReady: The file is not usable, or the passphrase too short (`passphrase.unusable`); it is another one than
            before (`passphrase.wrong`); what is kept beside the state cannot be read or written (`passphrase.unkept`).
    """
    passphrase = _read(settings.passphrase_file)
    kept = _kept(state / KEPT)
    for derivation in kept:
        vault = derivation.vault(passphrase)
        if vault.key_id() == derivation.root_key:
            return vault
    if not begin:
        raise NotReady(
            f"the passphrase in {settings.passphrase_file} is not the one that this state was begun with",
            reason="passphrase.wrong",
        )
    fresh = Derivation(secrets.token_hex(_SALT_BYTES), settings.memory_mib, settings.passes, settings.lanes)
    vault = fresh.vault(passphrase)
    _keep(state / KEPT, [*kept, replace(fresh, root_key=vault.key_id())])
    return vault


def begun(state: Path) -> bool:
    """Whether any passphrase was used with this state; raises NotReady as `open_passphrase`."""
    return bool(_kept(state / KEPT))


def _read(path: Path) -> Secret:
    try:
        passphrase = read_private(path).removesuffix(b"\n")
    except NotReady as error:
        raise NotReady(f"the passphrase is not usable: {error}", reason="passphrase.unusable") from error
    if len(passphrase) < LEAST_BYTES:
        raise NotReady(
            f"the passphrase in {path} is shorter than {LEAST_BYTES} bytes: take six random words or more",
            reason="passphrase.unusable",
        )
    return Secret(passphrase)


def _kept(path: Path) -> list[Derivation]:
    if not path.exists():
        return []
    try:
        return [Derivation(**each) for each in json.loads(read_private(path))]
    except (NotReady, ValueError, TypeError) as error:
        raise NotReady(
            f"{path}, which has the salt of the passphrase, is damaged: put it back from a copy",
            reason="passphrase.unkept",
        ) from error


def _keep(path: Path, derivations: Sequence[Derivation]) -> None:
    """Write them, newest last; they are on the disk, name and all, before any key lies under them."""
    try:
        replace_private(path, json.dumps([asdict(each) for each in derivations]).encode())
        if not inside_enclave():  # Gramine does not sync folders
            _sync(path.parent)
    except OSError as error:
        raise NotReady(f"{path} cannot be written: {error.strerror}", reason="passphrase.unkept") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
