"""tcb.lock: every file that enclaves carry, by whose it is, with its digest and the kinds of enclaves that carry it.

Of our own modules it has the names only: they are in this repository. The rest comes from wheels, pinned by dev.lock,
and from Debian's packages. `make tcb` writes it; a build takes what it names and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from cloister.enclave.kinds import KINDS, Kind
from cloister.errors import InvalidRequest

LOCK_FILE: Final = Path(__file__).parent / "measured" / "tcb.lock"
LETTERS: Final = MappingProxyType({name[0]: name for name in KINDS})
"""Of the kinds, in their order."""

Origin = Literal["wheel", "debian"]

_HEAD: Final = """\
# Everything that enclaves carry, beside Gramine and what each is configured with. `make tcb` writes this from tcb.toml,
# where the reasons are. Kinds: {kinds}.
"""
_SECTION: Final = re.compile(r"\[(ours|(wheel|debian) (\S+) (\S+))\]")
_OURS: Final = re.compile(r"([a-z-]+)  (\S+)")
_FILE: Final = re.compile(r"([a-z-]+)  ([0-9a-f]{64})  (\S+)")


@dataclass(frozen=True, slots=True)
class CarriedFile:
    """One file.

    Attributes:
        path: Below site-packages of a wheel's; below / of Debian's.
        sha256: Hex.
        kinds: Names of the kinds that carry it.
    """

    path: str
    sha256: str
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What comes from one wheel, or from one of Debian's packages."""

    origin: Origin
    name: str
    version: str
    because: str
    files: tuple[CarriedFile, ...]

    @property
    def kinds(self) -> frozenset[str]:
        """All that carry something of it."""
        return frozenset().union(*(file.kinds for file in self.files))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The whole.

    Attributes:
        ours: Our modules, by their dotted names, and our data files, by their paths; each with the kinds that carry it.
        parts: The rest.
    """

    ours: Mapping[str, frozenset[str]] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    def ours_of(self, kind: Kind) -> list[str]:
        """Our modules and data that a kind carries."""
        return [name for name, kinds in self.ours.items() if kind.name in kinds]

    def files_of(self, kind: Kind) -> Iterator[tuple[Part, CarriedFile]]:
        """All other files that a kind carries."""
        for part in self.parts:
            for file in part.files:
                if kind.name in file.kinds:
                    yield part, file


def parse_lock(text: str) -> Lock:
    """Read the text of a lock.

    Raises:
        InvalidRequest: A line is none of a lock's; the message has its number.
    """
    ours: dict[str, frozenset[str]] = {}
    sections: list[tuple[tuple[Origin, str, str] | None, list[str], list[CarriedFile]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or (line.startswith("#") and not sections):
            continue
        if section := _SECTION.fullmatch(line):
            origin: Origin = "debian" if section[2] == "debian" else "wheel"
            sections.append(((origin, section[3], section[4]) if section[2] else None, [], []))
        elif sections and line.startswith("# "):
            sections[-1][1].append(line[2:])
        elif sections and sections[-1][0] and (found := _FILE.fullmatch(line)):
            sections[-1][2].append(CarriedFile(found[3], found[2], _kinds(found[1])))
        elif sections and not sections[-1][0] and (found := _OURS.fullmatch(line)):
            ours[found[2]] = _kinds(found[1])
        else:
            raise InvalidRequest(
                f"line {number} of tcb.lock is none: make it anew with 'make tcb'", reason="tcb.invalid"
            )
    parts = (
        Part(origin=head[0], name=head[1], version=head[2], because=" ".join(because), files=tuple(files))
        for head, because, files in sections
        if head is not None
    )
    return Lock(ours=ours, parts=tuple(parts))


def lock_text(lock: Lock) -> str:
    """The text of a lock: sorted, so that a change shows as itself and nothing else."""
    lines = [_HEAD.format(kinds=", ".join(f"{letter} {name}" for letter, name in LETTERS.items())), "[ours]"]
    lines += [f"{_letters(kinds)}  {name}" for name, kinds in sorted(lock.ours.items())]
    for part in sorted(lock.parts, key=lambda part: (part.origin, part.name)):
        lines += ["", f"[{part.origin} {part.name} {part.version}]", f"# {part.because}"]
        lines += [f"{_letters(file.kinds)}  {file.sha256}  {file.path}" for file in sorted(part.files, key=_path)]
    return "\n".join(lines) + "\n"


def read_lock(path: Path = LOCK_FILE) -> Lock:
    """The lock that belongs to this Cloister; raises InvalidRequest if it is none."""
    return parse_lock(path.read_text())


def _path(file: CarriedFile) -> str:
    return file.path


def _letters(kinds: frozenset[str]) -> str:
    return "".join(letter if name in kinds else "-" for letter, name in LETTERS.items())


def _kinds(letters: str) -> frozenset[str]:
    return frozenset(LETTERS[letter] for letter in letters if letter in LETTERS)
