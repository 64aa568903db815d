"""The program of an enclave: exactly what tcb.lock names, laid out as Python looks for it, the same bytes anywhere.

    root/bin/python3.11     or redis-server
    root/lib/python3.11/    Python's modules, those of wheels, and ours, as bytecode; with libraries and data
    root/lib/system/        Debian's shared libraries, but for glibc, which Gramine brings

`python3.11 -I -S -B -m MODULE` finds all of it with these folders and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final

import cloister
from cloister.enclave.imports import modules_below, reached
from cloister.enclave.interpreter import LIBRARY, require_interpreter, run_program
from cloister.enclave.kinds import VERIFIER, Kind
from cloister.enclave.origins import installed_version, located
from cloister.enclave.tcb import CarriedFile, Lock, Part, read_lock
from cloister.errors import InvalidRequest, NotReady

IN_ENCLAVE: Final = PurePosixPath("/cloister/root")
_MODULES: Final = PurePosixPath("lib") / LIBRARY
_LIBRARIES: Final = PurePosixPath("lib/system")
_PROGRAMS: Final = PurePosixPath("bin")
_REASON: Final = "image.differs"
_BYTECODE: Final = Path(__file__).with_name("bytecode.py")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A file of this machine, and where it is to be below `root`."""

    source: Path
    target: PurePosixPath


def build_image(kind: Kind, into: Path, *, simulated: bool = False, lock: Lock | None = None) -> None:
    """Make `into/root` for a kind of enclave.

    Args:
        kind: Which.
        into: The enclave's folder; has no `root` yet.
        simulated: The verifier gets the simulator, without which it would believe no simulated evidence. No other kind
            ever has it.
        lock: What is carried; tcb.lock of this Cloister if not given.

    Raises:
        NotReady: This machine has not what the lock names, or is none on which enclaves can be built; the message says
            what to do.
        InvalidRequest: There is a `root` already.
    """
    require_interpreter()
    root = into / "root"
    if root.exists():
        raise InvalidRequest(f"{root} is there already: build into an empty folder")
    held = lock or read_lock()
    pieces = [*_carried(kind, held), *_ours(kind, held, simulated=simulated)]
    _lay_out(pieces, root)


def _carried(kind: Kind, lock: Lock) -> Iterator[_Piece]:
    """What others made, each file checked against the lock."""
    for part, file in lock.files_of(kind):
        source = located(part.origin, part.name, file.path)
        if source is None or _sha256(source) != file.sha256:
            raise _differs(part, file)
        yield _Piece(source, _place(part, file))


def _ours(kind: Kind, lock: Lock, *, simulated: bool) -> Iterator[_Piece]:
    package = Path(cloister.__file__).parent
    sources = modules_below(package)
    for name in lock.ours_of(kind):
        source = package.parent / name if "/" in name else sources.get(name)
        if source is None or not source.is_file():
            raise NotReady(f"tcb.lock names {name}, which is not here: make it anew with 'make tcb'", reason=_REASON)
        yield _Piece(source, _MODULES / source.relative_to(package.parent).as_posix())
    if simulated and kind == VERIFIER:
        yield from _simulator()


def _simulator() -> Iterator[_Piece]:
    """As much of the simulator as starts a verifier; nothing in the product imports it, so its files are looked up."""
    spec = find_spec(VERIFIER.simulated_module.partition(".")[0])
    if spec is None or not spec.submodule_search_locations:
        raise NotReady("simulated enclaves need cloister-simulator, which is not installed here", reason=_REASON)
    package = Path(spec.submodule_search_locations[0])
    sources = modules_below(package)
    for name in sorted(reached([VERIFIER.simulated_module], sources)):
        yield _Piece(sources[name], _MODULES / sources[name].relative_to(package.parent).as_posix())


def _place(part: Part, file: CarriedFile) -> PurePosixPath:
    """Where a file is below `root`.

    Raises:
        InvalidRequest: Nowhere: it is of no sort that an enclave has.
    """
    path = PurePosixPath(file.path)
    if part.origin == "wheel":
        return _MODULES / path
    if path.is_relative_to(f"usr/lib/{LIBRARY}"):
        return _MODULES / path.relative_to(f"usr/lib/{LIBRARY}")
    if path.is_relative_to("usr/lib"):
        return _LIBRARIES / path.name
    if path.is_relative_to("usr/bin"):
        return _PROGRAMS / path.name
    raise InvalidRequest(f"tcb.lock names {path}, for which an enclave has no place", reason=_REASON)


def _lay_out(pieces: list[_Piece], root: Path) -> None:
    compiled: list[tuple[str, str, str]] = []
    for piece in pieces:
        target = root / piece.target
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".py":
            compiled.append((str(piece.source), str(target.with_suffix(".pyc")), str(IN_ENCLAVE / piece.target)))
        else:
            target.write_bytes(piece.source.read_bytes())
            target.chmod(0o755 if piece.target.is_relative_to(_PROGRAMS) else 0o644)
    if compiled:
        run_program(_BYTECODE, stdin=compiled)


def _differs(part: Part, file: CarriedFile) -> NotReady:
    """Say which wheel or package is another one here than in the lock."""
    mend = "make setup" if part.origin == "wheel" else f"apt-get install {part.name}={part.version}"
    if other := other_here(part):
        return NotReady(f"{other}: mend it with '{mend}', or make the lock anew with 'make tcb'", reason=_REASON)
    return NotReady(
        f"{file.path} of {part.name} {part.version} is not the file that tcb.lock names, so somebody changed it here: "
        f"mend it with '{mend}'",
        reason=_REASON,
    )


def other_here(part: Part) -> str | None:
    """What this machine has in place of a part of the lock, in words; None if it has the same version."""
    version = installed_version(part.origin, part.name)
    if version == part.version:
        return None
    here = f"{version} is installed here" if version else "it is not installed here"
    return f"tcb.lock names {part.name} {part.version}, and {here}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
