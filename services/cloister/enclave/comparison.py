"""What changed between two measurements: identity, manifest, files; grouped as people think of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Final

from cloister.enclave.measurement import FileDigest, Measurement

_FOLDERS: Final = {"gramine": "Gramine's runtime", "mesh": "measured part of the mesh"}
_PYTHON: Final = "Python"


class Happened(StrEnum):
    """To a file."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class ChangedValue:
    """A value of the identity or of the manifest; None where there is none."""

    key: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file; None where it is not."""

    path: str
    before: FileDigest | None
    after: FileDigest | None

    @property
    def happened(self) -> Happened:
        """What became of it."""
        if self.before is None:
            return Happened.ADDED
        return Happened.REMOVED if self.after is None else Happened.CHANGED

    @property
    def part(self) -> str:
        """The part of an enclave that it belongs to: a package of Python, Python itself, Gramine's runtime..."""
        return part_of(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What changed."""

    identity: tuple[ChangedValue, ...]
    options: tuple[ChangedValue, ...]
    files: tuple[ChangedFile, ...]

    @property
    def same(self) -> bool:
        """Whether nothing did."""
        return not (self.identity or self.options or self.files)

    def by_part(self) -> dict[str, list[ChangedFile]]:
        """Changed files of each part, the parts by name."""
        found: dict[str, list[ChangedFile]] = {}
        for file in self.files:
            found.setdefault(file.part, []).append(file)
        return dict(sorted(found.items()))

    def plain(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "same": self.same,
            "identity": [_plain(each) for each in self.identity],
            "options": [_plain(each) for each in self.options],
            "files": [
                {
                    "path": file.path,
                    "part": file.part,
                    "happened": file.happened.value,
                    "before": _plain_file(file.before),
                    "after": _plain_file(file.after),
                }
                for file in self.files
            ],
        }


def compare(before: Measurement, after: Measurement) -> Comparison:
    """Say what changed from one build to another; that only one of them is signed yet is no change."""
    one_unsigned = None in (before.mrsigner, after.mrsigner)
    identity = _values(_identity(before), _identity(after))
    return Comparison(
        identity=tuple(each for each in identity if not (one_unsigned and each.key == "mrsigner")),
        options=_values(before.options, after.options),
        files=compare_files(before.files, after.files),
    )


def compare_files(before: Mapping[str, FileDigest], after: Mapping[str, FileDigest]) -> tuple[ChangedFile, ...]:
    """The files that are not the same, by path."""
    paths = sorted(before.keys() | after.keys())
    pairs = ((path, before.get(path), after.get(path)) for path in paths)
    return tuple(ChangedFile(path, old, new) for path, old, new in pairs if old != new)


def part_of(path: str) -> str:
    """The part of an enclave that a path in its folder belongs to."""
    match PurePosixPath(path).parts:
        case ("root", "lib", "system", *_):
            return "libraries of the system"
        case ("root", "lib", python, module, *_) if python.startswith("python"):
            name = module.partition(".")[0]
            return _PYTHON if name in sys.stdlib_module_names or name == "lib-dynload" else name
        case ("root", *_):
            return _PYTHON if "python" in path else "program"
        case (folder, _, *_):
            return _FOLDERS.get(folder, folder)
        case _:
            return "manifests"


def _identity(measured: Measurement) -> dict[str, object]:
    """What makes an enclave another one for whoever judges it, and what measured it."""
    loader = f"{measured.loader.sha256}, {measured.loader.size_bytes} bytes"
    return measured.identity() | {"gramine": measured.gramine, "gramine's loader": loader}


def _values(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[ChangedValue, ...]:
    keys = sorted(before.keys() | after.keys())
    pairs = ((key, before.get(key), after.get(key)) for key in keys)
    return tuple(ChangedValue(key, old, new) for key, old, new in pairs if old != new)


def _plain(value: ChangedValue) -> dict[str, object]:
    return {"key": value.key, "before": value.before, "after": value.after}


def _plain_file(file: FileDigest | None) -> dict[str, object] | None:
    return None if file is None else {"sha256": file.sha256, "size_bytes": file.size_bytes}
