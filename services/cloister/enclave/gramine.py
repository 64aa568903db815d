"""Gramine as it is installed on this machine: its programs, and the runtime that goes into an enclave.

It is found by its programs on the path, and asked where the rest of it lies. Gramine's own command signs with any key
and today's date; we have it measure only (`build`), and sign ourselves (`signing`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.enclave.signers import KeySigner
from cloister.enclave.sigstruct import Sigstruct
from cloister.errors import InvalidRequest, NotReady

DIRECT: Final = "gramine-direct"
SGX: Final = "gramine-sgx"
RUNTIME: Final = "gramine"
LIBOS: Final = "libsysdb.so"
OLDEST: Final = (1, 8)

# What Python, its packages and redis-server are linked with. An enclave that wants another does not start, so that none
# is taken along unseen.
LIBRARIES: Final = (
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
)
_PROGRAMS: Final = (DIRECT, "gramine-manifest", "gramine-sgx-sign")
_WITHIN_S: Final = 300.0
_NO_DATE: Final = "0000-00-00"
_ASKED: Final = (
    'libos = "{{ gramine.libos }}"\nruntime = "{{ gramine.runtimedir() }}"\nown = "{{ gramine.pkglibdir }}"\n'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gramine:
    """Where it lies.

    Attributes:
        version: As `1.9`.
        libos: The library OS, `libsysdb.so`.
        runtime: Folder of the C library that is patched for it.
        loader: `libpal.so`, which SGX loads first; measured, and taken from here when an enclave starts.
    """

    version: str
    libos: Path
    runtime: Path
    loader: Path


def program(name: str) -> str:
    """Full path of one of Gramine's programs; raises NotReady (`gramine.missing`) with what to install."""
    found = shutil.which(name)
    if found is None:
        raise _missing(f"there is no {name} on the path")
    return found


def installed() -> Gramine:
    """The Gramine of this machine.

    Raises:
        NotReady: Reason `gramine.missing`: it is not there, too old, or not all of it.
    """
    for name in _PROGRAMS:
        program(name)
    version = _version()
    if tuple(map(int, version.split("."))) < OLDEST:
        raise _missing(f"this Gramine is version {version}")
    places = tomllib.loads(_run("gramine-manifest", "--no-check", "--string", _ASKED))
    found = Gramine(
        version=version,
        libos=Path(places["libos"]),
        runtime=Path(places["runtime"]),
        loader=Path(places["own"]) / "sgx" / "libpal.so",
    )
    for path in (found.libos, found.loader, *(found.runtime / name for name in LIBRARIES)):
        if not path.is_file():
            raise _missing(f"this Gramine has no {path.name}")
    return found


def copy_runtime(found: Gramine, folder: Path) -> None:
    """Put what an enclave needs of Gramine into `gramine/` of its folder."""
    place = folder / RUNTIME
    place.mkdir()
    shutil.copyfile(found.libos, place / LIBOS)
    for name in LIBRARIES:
        shutil.copyfile(found.runtime / name, place / name)


def check_manifest(manifest: Path) -> None:
    """Have Gramine check a manifest by its own rules.

    Raises:
        InvalidRequest: Reason `manifest.refused`; the message is Gramine's.
    """
    _run("gramine-manifest", manifest.name, os.devnull, folder=manifest.parent)


def measure(manifest: Path, key: KeySigner) -> tuple[bytes, Sigstruct]:
    """Have Gramine measure what a manifest describes, and hash what it trusts.

    MRENCLAVE depends on no key, and on no date.

    Args:
        manifest: In its enclave's folder.
        key: Gramine measures by signing. Meanwhile it lies in a file, so it is one that was made for this alone.

    Returns:
        The manifest for SGX, which is measured as it is, byte by byte; and the SIGSTRUCT, signed by that key.

    Raises:
        InvalidRequest: Reason `manifest.refused`; the message is Gramine's.
    """
    with tempfile.TemporaryDirectory() as scratch:
        key_file, measured, signature = (Path(scratch) / name for name in ("key.pem", "manifest.sgx", "sig"))
        key_file.write_bytes(key.private_pem())
        places = ("--key", key_file, "--manifest", manifest.name, "--output", measured, "--sigfile", signature)
        _run("gramine-sgx-sign", "--quiet", "--date", _NO_DATE, *map(str, places), folder=manifest.parent)
        return measured.read_bytes(), Sigstruct.parse(signature.read_bytes())


def _version() -> str:
    said = _run(DIRECT, "--version")
    version = re.search(r"Gramine (\d+\.\d+)", said)
    if version is None:
        raise _missing(f"{DIRECT} does not say which version it is")
    return version[1]


def _run(name: str, *words: str, folder: Path | None = None) -> str:
    """What one of the programs prints; the machine's language and time zone are kept from it."""
    done = subprocess.run(  # noqa: S603  # our own words
        [program(name), *words],
        cwd=folder,
        env=_environment(os.environ),
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        raise InvalidRequest(f"{name} failed: {' '.join(done.stderr.split())[-400:]}", reason="manifest.refused")
    return done.stdout


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return dict(ours) | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _missing(what: str) -> NotReady:
    return NotReady(
        f"{what}; enclaves need Gramine {'.'.join(map(str, OLDEST))} or newer: install the package 'gramine' from the "
        "Gramine project's package repository for Debian or Ubuntu, or from your distribution",
        reason="gramine.missing",
    )
