"""Starts an enclave that was built: as it was measured, by the program of its set, with what the host may choose.

The set says which program that is, and nobody else: a hardened or debug enclave outside SGX would have no quote and no
sealing key, and be open to everybody; a simulated one has no signature that SGX would start it by.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.enclave import gramine, signing
from cloister.enclave.check import check_sigstructs
from cloister.enclave.comparison import compare_files
from cloister.enclave.configuration import Configuration
from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.measurement import Measurement, measure_files
from cloister.enclave.place import lay_out
from cloister.errors import InvalidRequest, NotReady

DEVICE: Final = Path("/dev/sgx_enclave")
AESM: Final = Path("/var/run/aesmd/aesm.socket")
"""Gramine asks Intel's quoting enclave through it; that service, and not we, has a use for /dev/sgx_provision."""
_PATH: Final = "PATH"
_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process that becomes the enclave.

    Attributes:
        command: Gramine's program, and the enclave by its place and kind.
        place: The folder that it starts in.
        environment: All of it: what the host may choose, and the search path that Gramine's own script needs.
        measured: What it is.
    """

    command: tuple[str, str]
    place: Path
    environment: Mapping[str, str]
    measured: Measurement

    def become(self) -> None:
        """Replace this process, with no shell; returns never, or raises OSError."""
        os.chdir(self.place)
        os.execve(self.command[0], self.command, self.environment)  # noqa: S606  # Gramine, by its full path


def checked(folder: Path) -> Measurement:
    """What was built in a folder, if it is still that; Gramine hashes each file again as the enclave opens it.

    Raises:
        NotReady: Nothing was built there, or it is not signed yet (`sigstruct.unsigned`).
        InvalidRequest: A file is not what was measured (`measurement.mismatched`), or as `check_sigstructs`.
    """
    measured = Measurement.read(folder)
    check_sigstructs(folder, measured)
    changed = compare_files(measured.files, measure_files(folder, measured.kind))
    if changed:
        raise InvalidRequest(
            f"{folder} is not what was measured: {changed[0].path} differs; 'cloister enclave check {folder}' names "
            "all that does",
            reason="measurement.mismatched",
        )
    signed = signing.signed_file(folder, measured.kind.name).is_file()
    if measured.enclave_set is not EnclaveSet.SIMULATED and not signed:
        raise NotReady(
            f"nobody has signed the enclave in {folder}: 'cloister enclave sign {folder} --key ...' does",
            reason="sigstruct.unsigned",
        )
    return measured


def launch(
    folder: Path, place: Path, measured: Measurement, environ: Mapping[str, str], here: Configuration | None = None
) -> Launch:
    """Make ready what starts an enclave.

    Args:
        folder: Where it was built.
        place: Where it is to run; the folder itself, or one for this instance of it.
        measured: What `checked` has found in the folder.
        environ: Of the host; only what this kind lets it choose is passed on.
        here: As `lay_out` takes it.

    Raises:
        NotReady: Gramine (`gramine.missing`) or SGX (`sgx.missing`) is not here.
        AlreadyExists: Something is in the place that is not ours.
    """
    program = program_for(measured)
    lay_out(measured.kind, folder, place, here=here)
    place = place.absolute()
    chosen = {name: environ[name] for name in measured.kind.host_chosen if name in environ}
    return Launch(
        command=(program, str(place / measured.kind.name)),
        place=place,
        environment={_PATH: environ.get(_PATH, _DEFAULT_PATH), **chosen},
        measured=measured,
    )


def program_for(measured: Measurement) -> str:
    """The one of Gramine's programs that starts an enclave of this set; raises NotReady as `launch` does."""
    if measured.enclave_set is EnclaveSet.SIMULATED:
        return gramine.program(gramine.DIRECT)
    program = gramine.program(gramine.SGX)
    _check_sgx(measured)
    return program


def _check_sgx(measured: Measurement) -> None:
    """Raise NotReady with what is missing, before Gramine does it in words of its own."""
    if not DEVICE.exists():
        raise NotReady(
            f"there is no {DEVICE}: a {measured.enclave_set} {measured.kind.name} runs in SGX only, which "
            "takes a CPU that has it, enabled in the BIOS, and Linux 5.11 or later (docs/guides/enclaves.md)",
            reason="sgx.missing",
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise NotReady(
            f"{DEVICE} is not open to this user; join the group that owns it (docs/guides/enclaves.md)",
            reason="sgx.missing",
        )
    if not AESM.exists():
        raise NotReady(
            f"there is no {AESM}: the service 'aesmd' makes quotes for Gramine; install and start it "
            "(docs/guides/enclaves.md)",
            reason="sgx.missing",
        )
