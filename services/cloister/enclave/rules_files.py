"""Which files: what the host may change holds no code, and what may not change is measured one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from cloister.enclave.code_paths import code_paths, files_at, held_as_code, named_as_code
from cloister.enclave.manifest_view import ManifestView, overlap, path_of, within
from cloister.enclave.rule import Objection, Rule

HOST: Final = "host"
"""The folder of an enclave's folder that the host may change."""
_SHA_256: Final = re.compile(r"[0-9a-f]{64}")
_SCHEMES: Final = ("file:", "dev:")


def _code(manifest: ManifestView) -> Iterator[Objection]:
    for key, uri in manifest.allowed:
        path = path_of(uri)
        if path and named_as_code(path):
            yield Objection(key, f"'{uri}' is named as code is")
            continue
        for file in files_at(manifest.folder / path) if path else ():
            what = held_as_code(file)
            if what or named_as_code(file.name):
                yield Objection(key, f"'{uri}' lets the host change {file.name}, {what or 'which is named as code is'}")
                break


def _loaded(manifest: ManifestView) -> Iterator[Objection]:
    codes = [code for code in code_paths(manifest) if code.path]
    for key, uri in manifest.allowed:
        code = next((code for code in codes if overlap(path_of(uri), code.path)), None)
        if code is not None:
            yield Objection(key, f"'{uri}' meets '{code.path}', which code is loaded from by {code.key}")


def _above_trusted(manifest: ManifestView) -> Iterator[Objection]:
    measured = [path_of(file.uri) for file in manifest.trusted]
    for key, uri in manifest.allowed:
        below = next((path for path in measured if within(path, path_of(uri))), None)
        if below is not None:
            yield Objection(key, f"'{uri}' is, or holds, '{below}', which is trusted")


def _allowed_folders(manifest: ManifestView) -> Iterator[Objection]:
    for key, uri in manifest.allowed:
        path = path_of(uri)
        folder = uri.endswith("/") or (manifest.folder / path).is_dir()
        if folder and path and (path == HOST or not within(path, HOST)):
            yield Objection(key, f"'{uri}' is a whole folder, and not one below {HOST}/")


def _trusted_folders(manifest: ManifestView) -> Iterator[Objection]:
    for file in manifest.trusted:
        path = path_of(file.uri)
        if file.uri.endswith("/") or (path and (manifest.folder / path).is_dir()):
            yield Objection(file.key, f"'{file.uri}' is a whole folder")


def _hashes(manifest: ManifestView) -> Iterator[Objection]:
    seen: set[str] = set()
    for file in manifest.trusted:
        path = path_of(file.uri)
        if path in seen:
            yield Objection(file.key, f"'{file.uri}' stands there twice, and Gramine goes by the first")
        seen.add(path)
        if not file.uri.endswith("/") and not _SHA_256.fullmatch(file.sha256):
            yield Objection(file.key, f"'{file.uri}' has no sha256")


def _entrypoint(manifest: ManifestView) -> Iterator[Objection]:
    if not isinstance(manifest.value("loader.entrypoint.uri"), str):
        yield Objection("loader.entrypoint.uri", "is missing")
    elif not _SHA_256.fullmatch(str(manifest.value("loader.entrypoint.sha256"))):
        yield Objection("loader.entrypoint.sha256", "is missing")


def _policy(manifest: ManifestView) -> Iterator[Objection]:
    if manifest.value("sgx.file_check_policy") not in (None, "strict"):
        yield Objection("sgx.file_check_policy", 'is not "strict"')


def _places(manifest: ManifestView) -> Iterator[Objection]:
    for key, uri in _uris(manifest):
        if not uri.startswith(_SCHEMES):
            yield Objection(key, f"'{uri}' is no URI of Gramine's, such as file:root/bin/x")
        elif path_of(uri).startswith("/"):
            yield Objection(key, f"'{uri}' is an absolute path of the host's")
        elif path_of(uri).split("/")[0] == "..":
            yield Objection(key, f"'{uri}' leads out of the enclave's folder")


def _uris(manifest: ManifestView) -> Iterator[tuple[str, str]]:
    yield from ((file.key, file.uri) for file in manifest.trusted)
    yield from manifest.allowed
    yield from ((mount.key, mount.uri) for mount in manifest.mounts if mount.type != "tmpfs")
    uri = manifest.value("loader.entrypoint.uri")
    if isinstance(uri, str):
        yield "loader.entrypoint.uri", uri


RULES: Final = (
    Rule(
        "M20",
        "What the host may change holds no code",
        "Whoever changes code that an enclave runs has all that the enclave has.",
        "Take it out of sgx.allowed_files; code belongs into sgx.trusted_files, with its sha256.",
        _code,
    ),
    Rule(
        "M21",
        "What the host may change is nowhere that code is loaded from",
        "A file that the host puts into such a folder is code tomorrow, though none lies there today.",
        "Allow a folder apart from entrypoints, prefixes and library paths.",
        _loaded,
    ),
    Rule(
        "M22",
        "What the host may change is no trusted file, and no folder above one",
        "Beside a trusted file the host puts others, and programs read whole folders.",
        "Allow single files, or a folder apart.",
        _above_trusted,
    ),
    Rule(
        "M23",
        "A whole folder is allowed below host/ only",
        "Nobody can say what will lie in a folder; below host/, services check what is in each file.",
        "Name the files, or link the folder below host/ and have its files checked.",
        _allowed_folders,
    ),
    Rule(
        "M24",
        "Files are trusted one by one, never a whole folder",
        "Whatever happens to lie in the folder when the enclave is built becomes part of it, unseen.",
        "Name each file that is used.",
        _trusted_folders,
    ),
    Rule(
        "M25",
        "Each trusted file has its sha256, and one alone",
        "Without it the manifest does not say which file is trusted; the tool that adds it trusts what it finds.",
        'Write { uri = "file:…", sha256 = "…" }, as gramine-manifest does.',
        _hashes,
    ),
    Rule(
        "M26",
        "The library OS is named, with its sha256",
        "It is the first code that runs inside; left out, it is the one that lies on the machine that signs.",
        'Set loader.entrypoint = { uri = "file:gramine/libsysdb.so", sha256 = "…" }.',
        _entrypoint,
    ),
    Rule(
        "M27",
        "Files that nobody named are refused",
        "With allow_all_but_log the host may put any file anywhere, and the enclave reads it.",
        "Take sgx.file_check_policy out.",
        _policy,
    ),
    Rule(
        "M28",
        "Paths count from the manifest's folder, and stay in it",
        "Paths are measured: with one of this machine's, the same enclave has another MRENCLAVE on the next.",
        "Copy or link the file into the enclave's folder and name it there: file:root/…, file:host/….",
        _places,
    ),
)
