"""What was measured: measurement.json in an enclave's folder, enough to compare two builds without having either.

    {"kind": "worker", "set": "hardened", "mrenclave": "3f…", "mrsigner": null, "isvprodid": 1, "isvsvn": 1,
     "debug": false, "gramine": "1.9", "loader": {"sha256": "…", "size_bytes": 1}, "options": {"loader.log_level": …},
     "files": {"root/bin/python3.11": {"sha256": "…", "size_bytes": 1}, …}}

MRENCLAVE covers all of it but the signer: the manifest with the digest of each file, and Gramine's loader, which is the
one file outside the folder. `mrsigner` is null until somebody has signed. Nothing in it is believed of a folder that
came from elsewhere (`check`).
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from cloister.enclave.kinds import EnclaveSet, Kind, kind_named
from cloister.enclave.measured_files import measured_files
from cloister.errors import InvalidRequest, NotReady

T = TypeVar("T")

NAME: Final = "measurement.json"
MEASURED_FOLDERS: Final = ("gramine", "mesh", "root")
FOR_SGX: Final = ".manifest.sgx"
"""How the manifest is called with what Gramine adds, as it is measured."""

_MAX_BYTES: Final = 16 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MEMBERS: Final = frozenset(
    {"kind", "set", "mrenclave", "mrsigner", "isvprodid", "isvsvn", "debug", "gramine", "loader", "options", "files"}
)


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What is known of a file; the digest in hex."""

    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> FileDigest:
        """Of what is there."""
        with path.open("rb") as file:
            return cls(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Identity of an enclave, and what it is made of.

    Attributes:
        mrenclave: Hex, as all digests here.
        mrsigner: None where nobody has signed.
        gramine: Version that measured.
        loader: Gramine's own code inside the enclave, `libpal.so`.
        options: The manifest by key, with dots; without trusted files.
        files: By path in the folder.
    """

    kind: Kind
    enclave_set: EnclaveSet
    mrenclave: str
    mrsigner: str | None
    isvprodid: int
    isvsvn: int
    debug: bool
    gramine: str
    loader: FileDigest
    options: Mapping[str, object]
    files: Mapping[str, FileDigest]

    @classmethod
    def read(cls, place: Path) -> Measurement:
        """Read the measurement of a folder, or a file that holds one.

        Raises:
            NotReady: Reason `measurement.missing`.
            InvalidRequest: Reason `measurement.malformed`.
        """
        path = place / NAME if place.is_dir() else place
        try:
            with path.open("rb") as file:
                return cls.from_json(file.read(_MAX_BYTES))
        except OSError as error:
            raise NotReady(
                f"{path} cannot be read: {error.strerror}; 'cloister enclave build' makes it",
                reason="measurement.missing",
            ) from error

    @classmethod
    def from_json(cls, raw: bytes) -> Measurement:
        """Read a measurement; raises InvalidRequest (`measurement.malformed`)."""
        try:
            found = json.loads(raw)
            if not isinstance(found, dict) or found.keys() != _MEMBERS:
                raise ValueError("other members than a measurement has")
            return cls(
                kind=kind_named(found["kind"]),
                enclave_set=EnclaveSet(found["set"]),
                mrenclave=_digest(found["mrenclave"]),
                mrsigner=None if found["mrsigner"] is None else _digest(found["mrsigner"]),
                isvprodid=_number(found["isvprodid"]),
                isvsvn=_number(found["isvsvn"]),
                debug=_of_type(found["debug"], bool),
                gramine=_of_type(found["gramine"], str),
                loader=_file(found["loader"]),
                options=_of_type(found["options"], dict),
                files={str(name): _file(each) for name, each in _of_type(found["files"], dict).items()},
            )
        except (ValueError, TypeError, KeyError, RecursionError, InvalidRequest) as error:
            raise InvalidRequest(f"no measurement of an enclave: {error}", reason="measurement.malformed") from error

    def plain(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            **self.identity(),
            "gramine": self.gramine,
            "loader": _plain(self.loader),
            "options": dict(sorted(self.options.items())),
            "files": {name: _plain(self.files[name]) for name in sorted(self.files)},
        }

    def identity(self) -> dict[str, Any]:
        """What a quote would say of it, and for whom it was built."""
        return {
            "kind": self.kind.name,
            "set": self.enclave_set.value,
            "mrenclave": self.mrenclave,
            "mrsigner": self.mrsigner,
            "isvprodid": self.isvprodid,
            "isvsvn": self.isvsvn,
            "debug": self.debug,
        }

    def write(self, folder: Path) -> None:
        """Put it into the folder, whole."""
        part = folder / f".{NAME}.part"
        part.write_text(json.dumps(self.plain(), indent=1) + "\n")
        part.replace(folder / NAME)


def measure_files(folder: Path, kind: Kind) -> dict[str, FileDigest]:
    """Measure the manifests, and each file of an enclave's folder that they trust; raises as `measured_files`."""
    found = {path: FileDigest(digest, size) for path, digest, size in measured_files(folder, MEASURED_FOLDERS)}
    manifests = (folder / f"{kind.name}{form}" for form in (".manifest", FOR_SGX))
    return found | {path.name: FileDigest.of(path) for path in manifests if path.is_file()}


def manifest_options(text: str) -> dict[str, object]:
    """A manifest by key, with dots: scalars and lists as they are, mounts by their path, and no trusted files."""
    found = tomllib.loads(text)
    found.get("sgx", {}).pop("trusted_files", None)
    return dict(_flat(found, ""))


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(each, dict) and "path" in each for each in value):
            yield from ((f"{name}[{each['path']}]", each) for each in value)
        else:
            yield name, value


def _file(value: Any) -> FileDigest:
    if not isinstance(value, dict) or value.keys() != {"sha256", "size_bytes"}:
        raise ValueError("a file is not described by sha256 and size_bytes")
    return FileDigest(_digest(value["sha256"]), _number(value["size_bytes"]))


def _plain(file: FileDigest) -> dict[str, object]:
    return {"sha256": file.sha256, "size_bytes": file.size_bytes}


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError("a digest is not 64 lower-case hex digits")
    return value


def _number(value: Any) -> int:
    if _of_type(value, int) < 0:
        raise ValueError("a number is negative")
    return int(value)


def _of_type(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise ValueError(f"a member is no {kind.__name__}")
    return value
