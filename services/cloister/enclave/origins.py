"""Whose a file of this machine is: a wheel's, or one of Debian's packages', and of which version."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Final

from cloister.enclave.tcb import Origin
from cloister.errors import NotReady

_DPKG: Final = "/usr/bin/dpkg-query"


def normal_name(name: str) -> str:
    """A distribution's name as package indexes spell it."""
    return name.lower().replace("_", "-").replace(".", "-")


def installed_version(origin: Origin, name: str) -> str | None:
    """The version of a wheel or of a package of Debian's that is installed here; None where it is not."""
    if origin == "wheel":
        try:
            return distribution(name).version
        except PackageNotFoundError:
            return None
    said = _dpkg("--show", "--showformat=${db:Status-Abbrev} ${Version}", name)
    status, _, version = said.partition("  ")
    return version.strip() if status == "ii" else None


def located(origin: Origin, name: str, path: str) -> Path | None:
    """Where a file of a wheel or package is here; None where it is not."""
    folder = Path("/")
    if origin == "wheel":
        try:
            folder = Path(str(distribution(name).locate_file("")))
        except PackageNotFoundError:
            return None
    return folder / path if (folder / path).is_file() else None


class Wheels:
    """All wheels that are installed here, by the files that they brought."""

    @cached_property
    def _owners(self) -> Mapping[str, tuple[Distribution, str]]:
        """By full path: which wheel, and the path below its site-packages."""
        owners: dict[str, tuple[Distribution, str]] = {}
        for wheel in distributions():
            folder = str(wheel.locate_file(""))
            for row in csv.reader((wheel.read_text("RECORD") or "").splitlines()):
                owners.setdefault(os.path.normpath(f"{folder}/{row[0]}"), (wheel, row[0]))
        return owners

    def owner(self, file: str) -> tuple[str, str, str] | None:
        """Name and version of the wheel that brought a file, and its path below site-packages."""
        found = self._owners.get(file)
        return (normal_name(found[0].name), found[0].version, found[1]) if found else None

    def matching(self, pattern: str) -> list[str]:
        """The files whose path below site-packages matches a pattern."""
        return [file for file, (_, path) in self._owners.items() if fnmatchcase(path, pattern)]


def package_owners(files: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name and version of the package of Debian's that each file came with, for those that came so.

    /lib is a link to /usr/lib, and packages know their files by either path.
    """
    spelt = {path: file for file in files for path in (file, f"/usr{file}", file.removeprefix("/usr"))}
    owned: dict[str, str] = {}
    for line in _dpkg("--search", *spelt).splitlines():
        names, _, path = line.partition(": ")
        if path in spelt:
            owned[spelt[path]] = names.split(",")[0].partition(":")[0]
    versions = {name: installed_version("debian", name) for name in set(owned.values())}
    return {path: (name, versions[name] or "") for path, name in owned.items()}


def _dpkg(*arguments: str) -> str:
    try:
        done = subprocess.run([_DPKG, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise NotReady(
            "enclaves are built on Debian 12, of whose packages they take Python and libraries; there is no dpkg here",
            reason="image.impossible",
        ) from None
    return done.stdout
