"""Where code comes from: what a manifest has loaded, and how to see that a file holds code."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cloister.enclave.manifest_view import ManifestView, path_of, within

_NAMES: Final = re.compile(
    r".*\.(py|pyc|pyo|pyd|pyz|pth|egg|whl|zip|so|a|o|ko|exe|dll|sh|bash|pl|rb|js|mjs|lua|jar|class|wasm)"
    r"|.*\.so(\.[0-9]+)+|.*\._pth",
    re.IGNORECASE,
)
_SEARCHED: Final = ("LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
_SEPARATORS: Final = {"LD_LIBRARY_PATH": "[:;]", "LD_PRELOAD": "[: ]"}
_BY_ITSELF: Final = (
    *("/etc/ld.so.preload", "/etc/ld.so.cache", "/lib", "/lib64", "/usr/lib", "/usr/lib64"),
    *("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"),
)
"""Where the C library looks, whatever variables say."""
_FIRST_BYTES: Final = {
    b"\x7fELF": "an ELF file",
    b"PK\x03\x04": "a zip file",
    b"#!": "a script",
}
# A number of the version, two bytes, little-endian, which was 3000 for Python 3.0; then CR and LF.
_COMPILED: Final = re.compile(rb".[\x0b-\x0f]\r\n", re.DOTALL)
MOST_FILES: Final = 10_000


class Code(NamedTuple):
    """A path of the host's that code is loaded from, and what loads it."""

    key: str
    path: str


def code_paths(manifest: ManifestView) -> Iterator[Code]:
    """Files and folders of the host's that the manifest has code loaded from.

    Beside what is named, that is what is mounted inside a folder that is named.
    """
    uri = manifest.value("loader.entrypoint.uri")
    if isinstance(uri, str):
        yield Code("loader.entrypoint.uri", path_of(uri))
    mounts = list(manifest.mounts)
    for key, inside in _inside(manifest):
        yield Code(key, manifest.host_path(inside))
        for mount in mounts:
            if mount.type != "tmpfs" and mount.path != inside and within(mount.path, inside):
                yield Code(key, path_of(mount.uri))


def named_as_code(path: str) -> bool:
    """Whether a file's name is one of code."""
    return _NAMES.fullmatch(posixpath.basename(path)) is not None


def held_as_code(file: Path) -> str:
    """What kind of code a file holds, by its first bytes; empty where it holds none, or cannot be read."""
    try:
        with file.open("rb") as opened:
            first = opened.read(4)
    except OSError:
        return ""
    if _COMPILED.match(first):
        return "compiled Python"
    return next((kind for begin, kind in _FIRST_BYTES.items() if first.startswith(begin)), "")


def files_at(place: Path) -> Iterator[Path]:
    """The file at a path, or those below a folder, links followed; no more than a manifest can mean.

    A pipe or device is none: nothing is waited for.
    """
    if place.is_file():
        yield place
    elif place.is_dir():
        yield from itertools.islice((each for each in place.rglob("*") if each.is_file()), MOST_FILES)


def _inside(manifest: ManifestView) -> Iterator[tuple[str, str]]:
    """Keys and paths, as the program sees them."""
    entrypoint = manifest.value("libos.entrypoint")
    if isinstance(entrypoint, str):
        program = posixpath.normpath(posixpath.join("/", entrypoint))
        yield "libos.entrypoint", program
        folder = posixpath.dirname(program)
        if posixpath.basename(folder) == "bin" and folder != "/bin":
            yield "libos.entrypoint", posixpath.dirname(folder)  # a prefix, such as Python's
    start = manifest.value("fs.start_dir")
    start = start if isinstance(start, str) else "/"
    for name in _SEARCHED:
        for path in _listed(name, manifest.environment.get(name) or ""):
            # A path that is empty, or not from the root, counts from the folder that the program starts in.
            yield f"loader.env.{name}", posixpath.normpath(posixpath.join("/", start, path))
    argv = manifest.value("loader.argv")
    for word in argv if isinstance(argv, list) else ():
        if isinstance(word, str) and named_as_code(word):
            yield "loader.argv", posixpath.normpath(posixpath.join("/", start, word))
    yield from (("fs.mounts", path) for path in _BY_ITSELF)


def _listed(name: str, value: str) -> list[str]:
    return re.split(_SEPARATORS.get(name, ":"), value) if value else []
