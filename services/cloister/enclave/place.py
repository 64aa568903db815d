"""Where an enclave runs: the measured parts of its folder by links, and a `host/` of its own.

Several enclaves of one build can so run at once, each with its own encrypted state and attestation files. Every URI in
a manifest is relative and Gramine follows links, so nothing about them is in MRENCLAVE; what a link leads to is hashed
by Gramine as it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cloister.enclave.configuration import HOST, IMPORT, make_private
from cloister.enclave.kinds import Kind
from cloister.enclave.manifest import MEASURED
from cloister.enclave.measurement import FOR_SGX
from cloister.errors import AlreadyExists

ATTESTATION: Final = f"{HOST}/attestation"
"""The simulator's attestation files, where there are any."""
_STARTS: Final = (".manifest", FOR_SGX, ".sig")


def lay_out(kind: Kind, folder: Path, place: Path) -> None:
    """Make a place to run the enclave of a folder in, or bring one up to date; what it keeps in its state stays.

    Args:
        kind: What it is.
        folder: Where it was built; may be the place itself.
        place: Made if it is not there.

    Raises:
        AlreadyExists: Something that is no link of ours is in the way.
    """
    folder, place = folder.absolute(), place.absolute()
    make_private(place)
    if place == folder:
        return
    programs = (kind.name, kind.importer)
    names = (*MEASURED, *(f"{program}{suffix}" for program in programs for suffix in _STARTS))
    _link({name: folder / name for name in names if (folder / name).exists()}, place)
    for part in (HOST, IMPORT):
        (place / part).mkdir(exist_ok=True)
        _link(leads(folder / part), place / part)


def leads(folder: Path) -> dict[str, Path]:
    """The links of a folder, by name, and where they lead."""
    return {each.name: each.readlink() for each in sorted(folder.iterdir()) if each.is_symlink()}


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
