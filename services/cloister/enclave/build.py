"""An enclave, whole: collected, configured, rendered, linted, measured. The same inputs give the same MRENCLAVE.

Inputs are the software that is installed here, as tcb.lock has it; Gramine; the settings and the measured files that
they name; the set, and the sizes. Neither the place, the day, the user, nor anything else of the machine is one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cloister.enclave import gramine, lint, signing
from cloister.enclave.check import check_trusted
from cloister.enclave.configuration import Configuration, make_state_key, take_configuration
from cloister.enclave.gramine import Gramine
from cloister.enclave.image import build_image
from cloister.enclave.kinds import EnclaveSet, Kind
from cloister.enclave.manifest import Sizing, render
from cloister.enclave.measurement import FOR_SGX, FileDigest, Measurement, manifest_options, measure_files
from cloister.enclave.signers import KeySigner, new_key
from cloister.enclave.sigstruct import Sigstruct
from cloister.errors import AlreadyExists


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to build.

    Attributes:
        settings: Settings file of the service, whose measured part becomes part of the enclave.
        sizing: What is to differ from the sizes in the kind's template.
        isvsvn: Security version; raised when an older build must no longer be believed.
        eventfd_reason: Why the host may forge wake-ups of this enclave's threads; empty where it may not.
    """

    kind: Kind
    enclave_set: EnclaveSet
    settings: Path
    sizing: Sizing = field(default_factory=Sizing)
    isvsvn: int = 1
    eventfd_reason: str = ""


def build(wanted: Wanted, into: Path) -> Measurement:
    """Build an enclave into a new folder: whole, or not at all.

    Raises:
        AlreadyExists: There is something at `into`.
        NotReady: Gramine is missing (`gramine.missing`), or something else that goes in.
        InvalidRequest: Settings, manifest or installed software are not as an enclave must have them.
    """
    found = gramine.installed()
    with _beside(into) as folder:
        configuration = take_configuration(wanted.kind, wanted.settings, folder)
        build_image(wanted.kind, folder, simulated=wanted.enclave_set is EnclaveSet.SIMULATED)
        gramine.copy_runtime(found, folder)
        key = new_key()
        manifest = _rendered(wanted, folder, configuration, importing=False)
        measured = _measured(wanted, found, folder, *_measure(wanted, manifest, key))
        make_state_key(configuration)
        if configuration.secrets and all(path.exists() for path in configuration.secrets.values()):
            importer = _rendered(wanted, folder, configuration, importing=True)
            signing.check_product(_measure(wanted, importer, key)[1], measured)
            for path in folder.glob(f"{importer.stem}.manifest*"):
                path.chmod(0o600)  # a digest is as good as the secret where that can be guessed, such as a password
        measured.write(folder)
    return measured


def _rendered(wanted: Wanted, folder: Path, configuration: Configuration, *, importing: bool) -> Path:
    """A manifest that we, and Gramine, find nothing wrong with."""
    manifest = render(
        wanted.kind,
        wanted.enclave_set,
        folder,
        configuration,
        sizing=wanted.sizing,
        isvsvn=wanted.isvsvn,
        eventfd_reason=wanted.eventfd_reason,
        importing=importing,
    )
    lint.check(manifest)
    gramine.check_manifest(manifest)
    return manifest


def _measure(wanted: Wanted, manifest: Path, key: KeySigner) -> tuple[str, Sigstruct]:
    """Have a manifest measured, and leave beside it what its set is started or signed with; as `gramine.measure`."""
    folder, name = manifest.parent, manifest.stem
    for_sgx, sigstruct = gramine.measure(manifest, key)
    if wanted.enclave_set is not EnclaveSet.SIMULATED:
        (folder / f"{name}{FOR_SGX}").write_bytes(for_sgx)
    if wanted.enclave_set is EnclaveSet.HARDENED:
        sigstruct.check_production()
        signing.unsigned_file(folder, name).write_bytes(sigstruct.unsigned().encode())
    if wanted.enclave_set is EnclaveSet.DEBUG:
        # Signed by the key that measured it, which is gone afterwards: this signer never has another enclave.
        signing.signed_file(folder, name).write_bytes(sigstruct.encode())
    return for_sgx.decode(), sigstruct


def _measured(wanted: Wanted, found: Gramine, folder: Path, for_sgx: str, sigstruct: Sigstruct) -> Measurement:
    """All that Gramine, and we, know of what lies in the folder, having found that it goes together."""
    measured = Measurement(
        kind=wanted.kind,
        enclave_set=wanted.enclave_set,
        mrenclave=sigstruct.enclavehash.hex(),
        mrsigner=sigstruct.mrsigner.hex() if wanted.enclave_set is EnclaveSet.DEBUG else None,
        isvprodid=sigstruct.isvprodid,
        isvsvn=sigstruct.isvsvn,
        debug=sigstruct.debug,
        gramine=found.version,
        loader=FileDigest.of(found.loader),
        options=manifest_options(for_sgx),
        files=measure_files(folder, wanted.kind),
    )
    signing.check_identity(sigstruct, measured)
    check_trusted(for_sgx, measured.files)
    return measured


@contextmanager
def _beside(into: Path) -> Iterator[Path]:
    """A folder that is moved to `into` when what is done in it is done; else nothing is left of it."""
    if into.exists() or into.is_symlink():
        raise AlreadyExists(f"{into} exists and was left as it is; name a new folder, or remove that one first")
    into.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{into.name}-", dir=into.parent))
    try:
        yield building
        building.chmod(0o755)
        building.rename(into)
    finally:
        shutil.rmtree(building, ignore_errors=True)
