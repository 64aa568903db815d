"""The root key is made of the CPU's sealing key, which Gramine has for an enclave in `/dev/attestation/keys`.

It is another one after a microcode update, under a higher ISVSVN and on another machine (docs/decisions/0043), and
under `mrenclave` after each build. Gramine warns against using such a key for a mount of encrypted files and for
something else besides. The mount derives its keys by AES-CMAC; here it goes into HKDF-SHA-256 under a label, and into
nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cloister.errors import NotReady
from cloister.kit.enclave_state import KEYS
from cloister.provisioner.vaults.root_key import ROOT_KEY_BYTES, RootKeyVault
from cloister.provisioner.vaults.settings import GramineSettings
from cloister.seal.keys import Secret, derive

SEALING_KEY_BYTES: Final = 16
_REASON: Final = "sealing_key.unusable"


def open_sealing_key(settings: GramineSettings, keys: Path = KEYS) -> RootKeyVault:
    """Make the root key of the sealing key.

    Args:
        settings: Say what it is bound to.
        keys: The folder of Gramine's keys.

    Raises:
        NotReady: There is none outside an enclave under SGX, or it is none (`sealing_key.unusable`).
    """
    name = f"_sgx_{settings.bound_to}"
    try:
        with (keys / name).open("rb", buffering=0) as file:
            sealing_key = Secret(file.read(SEALING_KEY_BYTES + 1) or b"")
    except OSError as error:
        raise NotReady(
            f"there is no sealing key {name} ({error.strerror}): only an enclave under SGX has one; name another back "
            "end in the vault's settings",
            reason=_REASON,
        ) from error
    if len(sealing_key) != SEALING_KEY_BYTES or not any(sealing_key.view):
        raise NotReady(f"the sealing key {name} is not {SEALING_KEY_BYTES} random bytes", reason=_REASON)
    info = f"cloister vault gramine v1 {settings.bound_to}".encode()
    return RootKeyVault(derive(sealing_key, salt=b"", info=info, length=ROOT_KEY_BYTES))
