"""What `cloister model seal` leaves for `cloister model publish`: one folder for each sealed version of a model.

model.sealed          the encrypted model; may go anywhere
manifest.json         what it is, in clear: exact bytes, as signed
manifest.signature    the owner's Ed25519 signature
model.key             what opens it, mode 0600: stays with the owner, goes to the provisioner, nowhere else
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.cli.failures import ExitCode, Stop
from cloister.client.owner import SealedFiles
from cloister.errors import CloisterError
from cloister.rpc.files import create_private
from cloister.rpc.identity import read_private
from cloister.seal import manifest
from cloister.seal.keys import KEY_BYTES, ModelKey, Secret
from cloister.seal.manifest import ModelManifest, Signed
from cloister.seal.model_file import digest_of

SEALED = "model.sealed"


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """A new folder, which goes again if what is to lie in it does not come to be; raises Stop where there is one."""
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError as error:
        raise Stop(f"{folder} exists; name a new folder with --out", ExitCode.USAGE) from error
    try:
        yield
    except BaseException:
        shutil.rmtree(folder)
        raise


def write(folder: Path, sealed: SealedFiles) -> None:
    """Write what belongs beside a sealed model that already lies in `folder`."""
    (folder / "manifest.json").write_bytes(sealed.signed.manifest)
    (folder / "manifest.signature").write_bytes(sealed.signed.signature)
    create_private(folder / "model.key", sealed.key.reveal())


def read(folder: Path, signer: Ed25519PrivateKey) -> tuple[Signed, ModelManifest, ModelKey]:
    """Read it back, and check that it belongs together and to this owner.

    Raises:
        Stop: Something is missing, or the sealed file is not the one in the manifest.
        SealBroken: The manifest is not signed by `signer`.
    """
    public = signer.public_key().public_bytes_raw()
    try:
        raw, signature = ((folder / f"manifest.{kind}").read_bytes() for kind in ("json", "signature"))
        key = read_private(folder / "model.key")
        with (folder / SEALED).open("rb") as file:
            digest = digest_of(file)
    except FileNotFoundError as error:
        raise Stop(
            f"{error.filename} is missing; name a folder that 'cloister model seal' made", ExitCode.USAGE
        ) from error
    found = manifest.verify(raw, signature, public)
    if digest != found.digest or len(key) != KEY_BYTES:
        raise Stop(f"{folder / SEALED} is not the model in the manifest beside it; seal the model again")
    return Signed(raw, signature, public), found, ModelKey(Secret(key))


@contextmanager
def placing(folder: Path, models: Path, found: ModelManifest) -> Iterator[Path]:
    """Put the sealed file where workers look for it, each time in one step, while the block registers the model.

    It lies there before, since workers ask for a new version as soon as there is one; unless another file lies there,
    which may be served, and is replaced once the registration has shown that it is none. Where that is refused, nothing
    has changed.
    """
    target = models / found.name / str(found.version) / SEALED
    target.parent.mkdir(parents=True, exist_ok=True)
    part, was_there = target.with_suffix(".part"), target.exists()
    try:
        shutil.copyfile(folder / SEALED, part)
        if not was_there:
            part.replace(target)
        yield target
    except CloisterError as error:
        if not was_there and not error.retryable:  # else it may be registered, though nobody told us
            target.unlink(missing_ok=True)
        raise
    else:
        if was_there:
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)
