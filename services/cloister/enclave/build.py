"""An enclave, whole: collected, configured, rendered, measured. The same inputs give the same MRENCLAVE.

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

from cloister.enclave import gramine, signing
from cloister.enclave.check import check_trusted, manifest_for_sgx
from cloister.enclave.configuration import take_configuration
from cloister.enclave.gramine import Gramine
from cloister.enclave.image import build_image
from cloister.enclave.kinds import EnclaveSet, Kind
from cloister.enclave.manifest import Sizing, render
from cloister.enclave.measurement import FileDigest, Measurement, manifest_options, measure_files
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
        build_image(wanted.kind, folder, simulated=wanted.enclave_set is EnclaveSet.SIMULATED)
        gramine.copy_runtime(found, folder)
        configuration = take_configuration(wanted.kind, wanted.settings, folder)
        manifest = render(
            wanted.kind,
            wanted.enclave_set,
            folder,
            configuration,
            sizing=wanted.sizing,
            isvsvn=wanted.isvsvn,
            eventfd_reason=wanted.eventfd_reason,
        )
        gramine.check_manifest(manifest)
        return _measured(wanted, manifest, found)


def _measured(wanted: Wanted, manifest: Path, found: Gramine) -> Measurement:
    """Measure what lies beside a manifest, and leave there what its set is started or signed with."""
    folder, kind = manifest.parent, wanted.kind
    for_sgx, sigstruct = gramine.measure(manifest)
    if wanted.enclave_set is not EnclaveSet.SIMULATED:
        manifest_for_sgx(folder, kind).write_bytes(for_sgx)
    measured = Measurement(
        kind=kind,
        enclave_set=wanted.enclave_set,
        mrenclave=sigstruct.enclavehash.hex(),
        mrsigner=sigstruct.mrsigner.hex() if wanted.enclave_set is EnclaveSet.DEBUG else None,
        isvprodid=sigstruct.isvprodid,
        isvsvn=sigstruct.isvsvn,
        debug=sigstruct.debug,
        gramine=found.version,
        loader=FileDigest.of(found.loader),
        options=manifest_options(for_sgx.decode()),
        files=measure_files(folder, kind),
    )
    signing.check_identity(sigstruct, measured)
    check_trusted(for_sgx.decode(), measured.files)
    if wanted.enclave_set is EnclaveSet.HARDENED:
        sigstruct.check_production()
        signing.unsigned_file(folder, kind).write_bytes(sigstruct.unsigned().encode())
    if wanted.enclave_set is EnclaveSet.DEBUG:
        # Signed by the key that measured it, which is gone: no second enclave of this signer will ever be.
        signing.signed_file(folder, kind).write_bytes(sigstruct.encode())
    measured.write(folder)
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
