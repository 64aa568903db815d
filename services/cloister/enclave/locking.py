"""tcb.lock made anew, from what our services import under the interpreter of the enclaves: `make tcb`."""

from __future__ import annotations

import hashlib
import marshal
import os.path
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import cloister
from cloister.enclave.imports import imported_by, is_within, modules_below, reached, resolves
from cloister.enclave.interpreter import PYTHON, require_interpreter, run_program
from cloister.enclave.kinds import IMPORTING, KINDS, REDIS, Kind
from cloister.enclave.origins import Wheels, package_owners
from cloister.enclave.reasons import Reasons, read_reasons
from cloister.enclave.tcb import LOCK_FILE, CarriedFile, Lock, Origin, Part, lock_text
from cloister.errors import CloisterError, InvalidRequest, NotReady

PACKAGE: Final = Path(cloister.__file__).parent
REDIS_SERVER: Final = "/usr/bin/redis-server"
_LDD: Final = "/usr/bin/ldd"
_TRACING: Final = Path(__file__).with_name("tracing.py")
_STARTS: Final = ("runpy",)  # by which `python -m` works
_NOT_DATA: Final = (".py", ".pyc", ".pyi", ".typed")
_MERGED: Final = re.compile("^/lib/")  # a link to /usr/lib
GLIBC: Final = ("libc6", "libc-bin")  # which Gramine brings


@dataclass(slots=True)
class Found:
    """What one kind takes: our modules, the files of all others by their full paths, and what its imports name."""

    ours: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)


def make_lock(reasons: Reasons) -> Lock:
    """Find out what each kind takes, and whose it is.

    Raises:
        InvalidRequest: Something is carried for which there is no reason, or a reason is for nothing.
        NotReady: A module of ours does not import, or a file is nobody's, or enclaves cannot be made here.
    """
    require_interpreter()
    wheels = Wheels()
    found = {kind.name: found_for(kind, reasons, wheels) for kind in KINDS.values()}
    files = {file for each in found.values() for file in each.files}
    owners = owners_of(files, wheels)
    if strangers := sorted(files - owners.keys()):
        raise NotReady(f"{strangers[0]} came with no wheel and no package of Debian's", reason="tcb.impossible")
    ours: dict[str, set[str]] = defaultdict(set)
    carried: dict[str, set[str]] = defaultdict(set)
    for kind, each in found.items():
        for name in each.ours:
            ours[name].add(kind)
        for file in each.files:
            if owners[file][1] not in GLIBC:
                carried[file].add(kind)
    lock = Lock(ours={name: frozenset(kinds) for name, kinds in ours.items()}, parts=_parts(carried, owners, reasons))
    check_reasons(lock, reasons)
    _check_absent({kind: each.asked for kind, each in found.items()}, reasons)
    return lock


def found_for(kind: Kind, reasons: Reasons, wheels: Wheels) -> Found:
    """What one kind takes."""
    if kind == REDIS:
        return Found(files={REDIS_SERVER, *_libraries([REDIS_SERVER])})
    absent = reasons.absent_of(kind)
    own = own_modules(kind, absent)
    sources = modules_below(PACKAGE)
    later = [wheels.matching(name) if "/" in name else [name] for name in reasons.later_of(kind)]
    names = {*(name for each in later for name in each if not name.startswith("/")), *_STARTS}
    record = imports_of(kind, absent, own, names)
    files = {file for name, file in record["modules"].items() if file and name.partition(".")[0] != PACKAGE.name}
    files |= {name for each in later for name in each if name.startswith("/")}
    files |= {str(PYTHON), *_landmarks()}
    programs = [file for file in files if not file.endswith(".py")]
    ours = own | {data.relative_to(PACKAGE.parent).as_posix() for data in _data({sources[name].parent for name in own})}
    return Found(ours=ours, files=files | _libraries(programs), asked=_asked(kind, record, absent))


def own_modules(kind: Kind, absent: Collection[str]) -> set[str]:
    """Our modules that a kind can import, however late."""
    programs = [f"{kind.module}.__main__", *([IMPORTING] if kind.sealed else [])]
    return reached(programs, modules_below(PACKAGE), stop=absent)


def imports_of(
    kind: Kind, absent: Collection[str], own: Iterable[str], further: Iterable[str] = ()
) -> Mapping[str, Any]:
    """What is loaded when all of that kind's modules are imported, and all that an import statement of theirs names.

    Raises:
        NotReady: One does not import.
    """
    sources = modules_below(PACKAGE)
    named = {
        name
        for module in own
        for name in imported_by(module, sources[module])
        if name.partition(".")[0] != PACKAGE.name
    }
    task = {"path": search_path(), "absent": [*absent], "imports": [*sorted({*own, *further}), *sorted(named)]}
    record: Mapping[str, Any] = marshal.loads(run_program(_TRACING, stdin=task))  # noqa: S302 - of our own making
    for name, why in record["failed"].items():
        if not is_within(name, absent):
            raise NotReady(f"the {kind.name} imports {name}, which fails: {why}", reason="tcb.impossible")
    return record


def _asked(kind: Kind, record: Mapping[str, Any], absent: Collection[str]) -> set[str]:
    """What import statements of all that a kind carries name: it is there, or left out on purpose.

    Raises:
        InvalidRequest: tcb.toml says nothing about some of it.
    """
    asked: dict[str, str] = dict(record["refused"])
    for module, file in record["modules"].items():
        if file.endswith(".py"):
            asked |= dict.fromkeys(imported_by(module, Path(file)), module)
    known = {*record["modules"], *record["built_in"]}
    unsaid = [name for name in asked if not resolves(name, known.__contains__) and not is_within(name, absent)]
    if unsaid:
        said = ", ".join(f"{name} (asked for by {asked[name]})" for name in sorted(unsaid))
        raise InvalidRequest(f"tcb.toml does not say whether the {kind.name} is to have {said}", reason="tcb.invalid")
    return set(asked)


def search_path() -> list[str]:
    """Where our package is, and where wheels are."""
    return [str(PACKAGE.parent), str(distribution("cryptography").locate_file(""))]


def _landmarks() -> Iterator[str]:
    """By these files Python knows where its modules are; they are loaded from its own memory."""
    yield f"/usr/lib/{PYTHON.name}/os.py"


def _data(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.iterdir() if path.is_file() and path.suffix not in _NOT_DATA)


def _libraries(programs: Iterable[str]) -> set[str]:
    """Shared libraries that programs and libraries need, and those that these need."""
    done = subprocess.run([_LDD, *programs], capture_output=True, text=True, check=False)  # noqa: S603
    needed = (line.split() for line in done.stdout.splitlines() if " => " in line)
    return {_MERGED.sub("/usr/lib/", os.path.normpath(words[2])) for words in needed if words[2].startswith("/")}


def owners_of(files: set[str], wheels: Wheels) -> dict[str, tuple[Origin, str, str, str]]:
    """Of each file: wheel or debian, name, version, and the path that it has in there; of nobody's, nothing."""
    owners: dict[str, tuple[Origin, str, str, str]] = {}
    for file in files:
        if owner := wheels.owner(file):
            owners[file] = ("wheel", *owner)
    for file, (name, version) in package_owners(files - owners.keys()).items():
        owners[file] = ("debian", name, version, file.removeprefix("/"))
    return owners


def _parts(
    carried: Mapping[str, set[str]], owners: Mapping[str, tuple[Origin, str, str, str]], reasons: Reasons
) -> tuple[Part, ...]:
    files: dict[tuple[Origin, str, str], list[CarriedFile]] = defaultdict(list)
    for file, kinds in carried.items():
        origin, name, version, path = owners[file]
        digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        files[origin, name, version].append(CarriedFile(path, digest, frozenset(kinds)))
    return tuple(
        Part(origin=origin, name=name, version=version, because=_because(reasons, origin, name), files=tuple(each))
        for (origin, name, version), each in files.items()
    )


def _because(reasons: Reasons, origin: Origin, name: str) -> str:
    reason = reasons.parts.get((origin, name))
    return reason.because if reason else ""


def check_reasons(lock: Lock, reasons: Reasons) -> None:
    """See that there is a reason for whatever is carried, and for nothing else; raises InvalidRequest."""
    for part in lock.parts:
        reason = reasons.parts.get((part.origin, part.name))
        allowed = reason.kinds if reason else frozenset()
        if part.kinds != allowed:
            raise InvalidRequest(
                f"{part.name} is carried by {', '.join(sorted(part.kinds))}, and tcb.toml has a reason for "
                f"{', '.join(sorted(allowed)) or 'none'}",
                reason="tcb.invalid",
            )
    for origin, name in reasons.parts.keys() - {(part.origin, part.name) for part in lock.parts}:
        raise InvalidRequest(
            f"tcb.toml has a reason for {name} ({origin}), which nothing carries", reason="tcb.invalid"
        )


def _check_absent(asked: Mapping[str, set[str]], reasons: Reasons) -> None:
    """See that somebody asks for whatever is left out; files are opened, and only a running service shows that."""
    for entry in reasons.absent:
        names = {name for kind in entry.reason.kinds for name in asked[kind]}
        for name in entry.names:
            if "/" not in name and not any(is_within(each, [name]) for each in names):
                raise InvalidRequest(f"tcb.toml leaves out {name}, which nobody asks for", reason="tcb.invalid")


def main() -> int:
    """Write tcb.lock; returns the exit code."""
    try:
        lock = make_lock(read_reasons())
    except CloisterError as error:
        print(f"tcb.lock stays as it is: {error}", file=sys.stderr)
        return 1
    LOCK_FILE.write_text(lock_text(lock))
    for kind in KINDS.values():
        files = sum(1 for _ in lock.files_of(kind))
        print(f"{kind.name:12}{files:5} files of others, {len(lock.ours_of(kind)):4} of ours")
    return 0


if __name__ == "__main__":
    sys.exit(main())
