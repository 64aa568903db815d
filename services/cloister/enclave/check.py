"""Whether an enclave's folder is still what was measured: its files, its manifest, its SIGSTRUCT."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloister.enclave import gramine, signing
from cloister.enclave.comparison import ChangedFile, compare_files
from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.measurement import FOR_SGX, FileDigest, Measurement, manifest_options, measure_files
from cloister.enclave.signers import new_key
from cloister.errors import InvalidRequest, NotReady

_SCHEME: Final = "file:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found in a folder whose manifest and SIGSTRUCT are those of its measurement.

    Attributes:
        changed: Files that are not as they were measured.
        measured_again: Whether Gramine is here and came to the same MRENCLAVE.
    """

    measured: Measurement
    changed: tuple[ChangedFile, ...]
    measured_again: bool


def check_folder(folder: Path) -> Checked:
    """Hold an enclave's folder against its own measurement.

    Raises:
        NotReady: Nothing was built there, or not all of it is there.
        InvalidRequest: Reason `measurement.mismatched`, `sigstruct.forged`, `manifest.mismatched`, or
            `manifest.refused` where something is no file.
    """
    measured = Measurement.read(folder)
    check_sigstructs(folder, measured)  # 1 the SIGSTRUCT is about this measurement, and its signature holds
    changed = compare_files(measured.files, measure_files(folder, measured.kind))  # 2 the files are those measured
    if changed:
        return Checked(measured=measured, changed=changed, measured_again=False)
    if measured.enclave_set is not EnclaveSet.SIMULATED:  # 3 and the manifest trusts them
        manifest = _for_sgx(folder, measured).read_text()
        check_trusted(manifest, measured.files)
        _check_options(manifest, measured)
    return Checked(measured=measured, changed=(), measured_again=_measured_again(folder, measured))  # 4 by Gramine too


def check_sigstructs(folder: Path, measured: Measurement) -> None:
    """Check what a set has of SIGSTRUCTs; raises as `check_folder`."""
    if measured.enclave_set is EnclaveSet.HARDENED:
        signing.to_sign(folder)
    if measured.mrsigner is None:
        return
    signed = signing.read_sigstruct(signing.signed_file(folder, measured.kind.name))
    signed.verify()
    signing.check_identity(signed, measured)
    if signed.mrsigner.hex() != measured.mrsigner:
        raise InvalidRequest("the SIGSTRUCT is another signer's than was measured", reason="measurement.mismatched")


def check_trusted(manifest: str, files: Mapping[str, FileDigest]) -> None:
    """Check that a manifest for SGX trusts the files of its folder as they are, all of them, and nothing else.

    Raises:
        InvalidRequest: Reason `manifest.mismatched`.
    """
    trusted = set(_trusted(tomllib.loads(manifest)))  # pairs, so that a file with two digests is noticed
    lying = {(path, file.sha256) for path, file in files.items() if "/" in path}
    for path in sorted(trusted ^ lying):
        raise InvalidRequest(
            f"the manifest and the folder do not agree about {path[0]}: it is trusted, but not there, or there and not "
            "trusted, or another file than is trusted",
            reason="manifest.mismatched",
        )


def _check_options(manifest: str, measured: Measurement) -> None:
    """Check that the measurement tells people of the options that the manifest has; raises as `check_trusted`."""
    found, told = manifest_options(manifest), measured.options
    for key in sorted(found.keys() | told.keys()):
        if found.get(key) != told.get(key):
            raise InvalidRequest(
                f"the measurement does not say of {key} what the manifest does", reason="manifest.mismatched"
            )


def _for_sgx(folder: Path, measured: Measurement) -> Path:
    return folder / f"{measured.kind.name}{FOR_SGX}"


def _trusted(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for each in (*manifest["sgx"]["trusted_files"], manifest["loader"]["entrypoint"]):
        yield each["uri"].removeprefix(_SCHEME), each["sha256"]


def _measured_again(folder: Path, measured: Measurement) -> bool:
    try:
        found = gramine.installed()
    except NotReady:
        return False
    if FileDigest.of(found.loader) != measured.loader:
        return False
    manifest, sigstruct = gramine.measure(folder / f"{measured.kind.name}.manifest", new_key())
    kept = _for_sgx(folder, measured)
    if sigstruct.enclavehash.hex() != measured.mrenclave or (kept.exists() and kept.read_bytes() != manifest):
        raise InvalidRequest("Gramine measures another enclave than was measured", reason="measurement.mismatched")
    return True
