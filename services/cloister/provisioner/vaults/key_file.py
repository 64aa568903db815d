"""The root key is a file on this machine: 32 random bytes that only we may read."""

from __future__ import annotations

from pathlib import Path

from cloister.errors import NotReady
from cloister.provisioner.vaults.root_key import ROOT_KEY_BYTES, RootKeyVault
from cloister.rpc.files import read_private
from cloister.seal.keys import Secret


def open_key_file(path: Path) -> RootKeyVault:
    """Read the root key.

    Raises:
        NotReady: The file is not a regular one of 32 bytes that nobody but its owner can read (`root_key.unusable`).
    """
    try:
        root = Secret(read_private(path))
    except NotReady as error:
        raise NotReady(f"the root key is not usable: {error}", reason="root_key.unusable") from error
    if len(root) != ROOT_KEY_BYTES:
        raise NotReady(f"the root key is not usable: {path} is not {ROOT_KEY_BYTES} bytes", reason="root_key.unusable")
    return RootKeyVault(root)
