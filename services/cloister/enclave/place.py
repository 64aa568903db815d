"""Where an enclave runs: the measured parts of its folder by links, and a `host/` of its own.

Several enclaves of one build can so run at once, each with its own encrypted state and attestation files. Every URI in
a manifest is relative and Gramine follows links, so nothing about them is in MRENCLAVE; what a link leads to is hashed
by Gramine as it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cloister.enclave.configuration import HOST, IMPORT, Configuration, make_private
from cloister.enclave.kinds import Kind
from cloister.enclave.measurement import FOR_SGX, MEASURED_FOLDERS
from cloister.errors import AlreadyExists

ATTESTATION: Final = f"{HOST}/attestation"
"""The simulator's attestation files, where there are any."""
_STARTS: Final = (".manifest", FOR_SGX, ".sig")


def lay_out(
    kind: Kind,
    folder: Path,
    place: Path,
    *,
    here: Configuration | None = None,
    importer: Path | None = None,
) -> None:
    """Make a place to run the enclave of a folder in, or bring one up to date; what it keeps in its state stays.

    Args:
        kind: What it is.
        folder: Where it was built; may be the place itself.
        place: Made if it is not there.
        here: Where the host's files and secrets lie on this machine; the folder's own links say it if not given.
        importer: The folder with what brings secrets in, if that is another one.

    Raises:
        AlreadyExists: Something that is no link of ours is in the way.
    """
    folder, place = folder.absolute(), place.absolute()
    make_private(place)
    if place != folder:
        _link(_programs(kind, folder, (importer or folder).absolute()), place)
    links = {HOST: here.host, IMPORT: here.secrets} if here else {part: leads(folder / part) for part in (HOST, IMPORT)}
    for part, wanted in links.items():
        (place / part).mkdir(exist_ok=True)
        _link(wanted, place / part)


def leads(folder: Path) -> dict[str, Path]:
    """The links of a folder, by name, and where they lead; none where there is no such folder, as in an image."""
    if not folder.is_dir():
        return {}
    return {each.name: each.readlink() for each in sorted(folder.iterdir()) if each.is_symlink()}


def _programs(kind: Kind, folder: Path, importer: Path) -> dict[str, Path]:
    """What is measured, and what starts it; each where it lies, if it does."""
    paths = (
        *(folder / name for name in MEASURED_FOLDERS),
        *(folder / f"{kind.name}{suffix}" for suffix in _STARTS),
        *(importer / f"{kind.importer}{suffix}" for suffix in _STARTS),
    )
    return {path.name: path for path in paths if path.exists()}


def _link(wanted: Mapping[str, Path], folder: Path) -> None:
    """Have exactly these links in a folder; what is no link stays."""
    for name in leads(folder).keys() - wanted.keys():
        (folder / name).unlink()
    for name, target in wanted.items():
        link = folder / name
        if link.is_symlink():
            if link.readlink() == target:
                continue
            link.unlink()
        try:
            link.symlink_to(target)
        except FileExistsError as error:
            raise AlreadyExists(f"{link} is in the way: {folder} is no place that an enclave runs in") from error
