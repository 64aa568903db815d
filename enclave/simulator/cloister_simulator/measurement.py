"""What a simulated worker or verifier measures as: its own code, so that changed code has another MRENCLAVE.

Nobody outside the operator's control takes this measurement, so it proves nothing; it lets policies that pin MRENCLAVE
behave as they would with Gramine, where the loader, the manifest and every trusted file are measured. Settings are left
out: what a worker runs under is in its claims (`cfg`). An enclave that was built to run under Gramine has such a
measurement beside it, and reports that one. A simulated trust domain has the same code in RTMR3, into which the boot
chain of a real one would extend the digest of the worker's image; firmware and kernel are made up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from cloister.errors import InvalidRequest, NotFound, NotReady
from cloister_simulator.recipe import (
    ATTRIBUTE_DEBUG,
    ATTRIBUTE_INIT,
    ATTRIBUTE_MODE64BIT,
    ENCLAVE_ATTRIBUTES,
    attributes,
    label_digest,
)
from cloister_simulator.trust_domain import TrustDomain, extend

# The folders and files of `cloister` that each can reach, itself included.
MEASURED = (
    "__init__.py",
    "api",
    "contract.py",
    "dsse.py",
    "ear",
    "errors.py",
    "evidence",
    "kit",
    "oip",
    "rpc",
    "seal",
    "td_measurement.py",
    "tlog",
    "worker",
)
MEASURED_VERIFIER = (
    "__init__.py",
    "api",
    "appraisal",
    "der.py",
    "dsse.py",
    "ear",
    "errors.py",
    "evidence",
    "kit",
    "pcs",
    "rpc",
    "seal",
    "td_measurement.py",
    "tlog",
    "verifier",
)
MRSIGNER = label_digest("signer of enclaves")
ISVPRODID = 1
ISVPRODID_VERIFIER = 2
ISVSVN = 1
DEBUG_ATTRIBUTES = attributes(ATTRIBUTE_INIT | ATTRIBUTE_MODE64BIT | ATTRIBUTE_DEBUG)
BUILT = "measurement.json"
_LABEL = b"cloister simulator measurement v1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The identity of a simulated enclave."""

    mrenclave: bytes
    mrsigner: bytes = MRSIGNER
    isvprodid: int = ISVPRODID
    isvsvn: int = ISVSVN
    attributes: bytes = ENCLAVE_ATTRIBUTES


def worker_measurement(package: Path | None = None) -> Measurement:
    """Measure the worker of the `cloister` that is installed here, or in the package folder given.

    Raises:
        NotReady: A part of the worker is missing.
    """
    return _measured(MEASURED, package)


def verifier_measurement(package: Path | None = None) -> Measurement:
    """Measure the verifier in the same way; another product of the same signer.

    Raises:
        NotReady: A part of the verifier is missing.
    """
    return replace(_measured(MEASURED_VERIFIER, package), isvprodid=ISVPRODID_VERIFIER)


def worker_trust_domain(package: Path | None = None) -> TrustDomain:
    """Measure the worker as the one thing that runs in a simulated trust domain.

    Raises:
        NotReady: A part of the worker is missing.
    """
    code = hashlib.sha384(worker_measurement(package).mrenclave).digest()
    booted = TrustDomain()
    return replace(booted, rtmrs=(*booted.rtmrs[:3], extend(booted.rtmrs[3], code)))


def built_measurement(enclave: Path) -> Measurement:
    """What `cloister enclave build` measured of a simulated enclave. Nobody signs it: its signer is the simulator's.

    Args:
        enclave: The folder it was built in.

    Raises:
        NotFound: No enclave was built there.
        InvalidRequest: It is none of the simulated set, or what was measured makes no sense.
    """
    file = enclave / BUILT
    try:
        measured = json.loads(file.read_bytes())
        if measured["set"] != "simulated":
            raise InvalidRequest(f"{file} is of the {measured['set']} set; only simulated enclaves are quoted here")
        if measured["mrsigner"] is not None:
            raise InvalidRequest(f"{file} is of an enclave that somebody signed; simulated ones are never signed")
        return Measurement(
            mrenclave=mrenclave_from_hex(measured["mrenclave"]),
            isvprodid=_number(measured["isvprodid"]),
            isvsvn=_number(measured["isvsvn"]),
            attributes=DEBUG_ATTRIBUTES if measured["debug"] else ENCLAVE_ATTRIBUTES,
        )
    except FileNotFoundError:
        raise NotFound(f"there is no {file}; build the enclave with: cloister enclave build") from None
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{file} is no measurement: {error}") from error


def mrenclave_from_hex(text: str) -> bytes:
    """The 32 bytes that an MRENCLAVE is; raises InvalidRequest."""
    return _from_hex(text, "MRENCLAVE", hashlib.sha256().digest_size)


def mrtd_from_hex(text: str) -> bytes:
    """The 48 bytes that an MRTD is; raises InvalidRequest."""
    return _from_hex(text, "MRTD", hashlib.sha384().digest_size)


def _from_hex(text: str, name: str, size_bytes: int) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except (ValueError, TypeError):
        digest = b""
    if len(digest) != size_bytes:
        raise InvalidRequest(f"{name} must be {2 * size_bytes} hex digits")
    return digest


def _number(value: int) -> int:
    if type(value) is not int or not 0 <= value < 1 << 16:
        raise ValueError(f"{value!r} is not a number of 16 bits")
    return value


def _measured(parts: Sequence[str], package: Path | None) -> Measurement:
    digest = hashlib.sha256(_LABEL)
    root = _installed() if package is None else package
    for name in sorted(_measured_files(root, parts)):
        path = name.encode()
        digest.update(len(path).to_bytes(4, "big") + path + hashlib.sha256((root / name).read_bytes()).digest())
    return Measurement(mrenclave=digest.digest())


def _measured_files(package: Path, parts: Sequence[str]) -> Iterator[str]:
    """The `.py` files that count, as POSIX paths relative to the package."""
    for name in parts:
        place = package / name
        if not place.exists():
            raise NotReady(f"cloister has no {name} here, so what runs here cannot be measured")
        for file in place.rglob("*.py") if place.is_dir() else [place]:
            yield file.relative_to(package).as_posix()


def _installed() -> Path:
    spec = find_spec("cloister")
    if spec is None or not spec.submodule_search_locations:
        raise NotReady("cloister is not installed, so what runs here cannot be measured")
    return Path(spec.submodule_search_locations[0])
