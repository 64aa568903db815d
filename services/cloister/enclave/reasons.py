"""tcb.toml: what an enclave may carry and why, what is found only while it runs, and what is left out and why."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloister.enclave.kinds import KINDS, Kind
from cloister.enclave.tcb import LETTERS, Origin
from cloister.errors import InvalidRequest

REASONS_FILE: Final = Path(__file__).parent / "measured" / "tcb.toml"
_TABLES: Final[Mapping[Origin, str]] = {"wheel": "wheels", "debian": "packages"}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some kinds of enclaves carry something, or do without it."""

    kinds: frozenset[str]
    because: str


@dataclass(frozen=True, slots=True)
class Named:
    """Modules by their dotted names, or files of wheels by patterns of their paths, and what is said of all of them."""

    names: tuple[str, ...]
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """The page, read.

    Attributes:
        parts: Wheels and packages, by their names.
        later: What is found only while a service runs.
        absent: What is left out; a module with all that is in it.
    """

    parts: Mapping[tuple[Origin, str], Reason]
    later: tuple[Named, ...]
    absent: tuple[Named, ...]

    def later_of(self, kind: Kind) -> list[str]:
        """What a kind finds only while it runs."""
        return _names(self.later, kind)

    def absent_of(self, kind: Kind) -> list[str]:
        """What a kind does without."""
        return _names(self.absent, kind)


def read_reasons(path: Path = REASONS_FILE) -> Reasons:
    """Read the page; raises InvalidRequest that names the entry which has no reason or no kinds."""
    page = tomllib.loads(path.read_text())
    return Reasons(
        parts={
            (origin, name): _reason(name, entry)
            for origin, table in _TABLES.items()
            for name, entry in page[table].items()
        },
        later=tuple(map(_named, page["later"])),
        absent=tuple(map(_named, page["absent"])),
    )


def _names(entries: tuple[Named, ...], kind: Kind) -> list[str]:
    return [name for entry in entries if kind.name in entry.reason.kinds for name in entry.names]


def _named(entry: Mapping[str, Any]) -> Named:
    return Named(tuple(entry["names"]), _reason(entry["names"][0], entry))


def _reason(name: str, entry: Mapping[str, Any]) -> Reason:
    letters, because = entry.get("kinds", ""), entry.get("because", "")
    if not because or not letters or set(letters) - set(LETTERS):
        raise InvalidRequest(
            f"'{name}' in tcb.toml needs a reason, and kinds of {''.join(LETTERS)} ({', '.join(KINDS)})",
            reason="tcb.invalid",
        )
    return Reason(frozenset(LETTERS[letter] for letter in letters), because)
