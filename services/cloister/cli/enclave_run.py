"""`cloister enclave run` and `import`: an enclave started by Gramine, and the secrets that it needs before."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cloister.cli.executables import SIMULATOR, executable
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.options import examples
from cloister.cli.output import alarm, say
from cloister.cli.preparing import extras
from cloister.enclave.configuration import IMPORT
from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.place import ATTESTATION

if TYPE_CHECKING:
    from cloister.enclave.configuration import Configuration
    from cloister.enclave.measurement import Measurement

_READY: Final = "attestation_type"
_WITHIN_S: Final = 20.0
_POLL_S: Final = 0.02

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an enclave, as 'build' makes it.")]
At = Annotated[
    Path | None,
    typer.Option(metavar="PLACE", help="Folder to run it in, made if need be, with a state of its own. [default: DIR]"),
]
MeshHere = Annotated[
    Path | None,
    typer.Option(
        "--mesh", metavar="DIR", help="What this machine has of the mesh's folder, if it was built on another machine."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Give the `enclave` command this part."""
    app.command(
        epilog=examples(
            "cloister enclave run enclaves/worker",
            "CLOISTER_WORKER_LISTEN=127.0.0.1:7502 cloister enclave run enclaves/worker --at places/worker-2",
            "cloister enclave run enclaves/worker --platform .cloister/simulator",
            "cloister enclave run /opt/cloister/enclaves/worker --at /var/lib/cloister/worker --mesh /etc/cloister",
        )
    )(run)
    app.command(
        "import",
        epilog=examples(
            "cloister enclave import enclaves/verifier",
            "cloister enclave import enclaves/provisioner --at places/provisioner",
            "cloister enclave import /enclave --at /place --mesh /etc/cloister --importer /importer",
        ),
    )(bring_in)


def run(
    folder: Folder,
    at: At = None,
    mesh: MeshHere = None,
    platform: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Simulated platform that makes the quotes of a simulated enclave."),
    ] = None,
) -> None:
    """Check that an enclave is what was measured, and become it: by gramine-sgx, or gramine-direct if it is simulated.

    Its host chooses nothing but the variables that its kind lets pass, such as CLOISTER_WORKER_LISTEN. SIGTERM drains
    it. Several enclaves of one build run at once, each in a PLACE of its own. What makes the quotes of a simulated one
    may be another program, 'cloister-simulator attestation PLACE/host/attestation', which must be there before.
    """
    with extras("enclave"):
        from cloister.enclave import run as running
        from cloister.enclave import secret_import
    measured = running.checked(folder)
    simulated = measured.enclave_set is EnclaveSet.SIMULATED
    quoted = simulated and measured.kind.quotes
    if quoted and platform is None and not ((at or folder) / ATTESTATION / _READY).is_file():
        raise Stop(f"{folder} is simulated: name what makes its quotes, --platform MESH/simulator", ExitCode.USAGE)
    if platform is not None and not simulated:
        raise Stop(f"{folder} is {measured.enclave_set}: quotes are the CPU's; leave out --platform", ExitCode.USAGE)
    launch = running.launch(folder, at or folder, measured, os.environ, _here(mesh, measured, folder))
    if awaited := secret_import.awaited(launch.place):
        options = (f" --{name} {value}" for name, value in (("at", at), ("mesh", mesh)) if value)
        raise Stop(f"{', '.join(awaited)} must be brought in first: cloister enclave import {folder}{''.join(options)}")
    if simulated:
        alarm("This enclave is simulated: it protects nothing.")
    if platform is not None and quoted:
        _attest(launch.place, folder, platform)
    launch.become()


def bring_in(
    folder: Folder,
    at: At = None,
    mesh: MeshHere = None,
    importer: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder with what was built to bring them in, which no image has. [default: DIR]"
        ),
    ] = None,
) -> None:
    """Bring the secrets that the settings name into an enclave; it must not be running.

    An enclave that was built and signed with it does that, so that it has the same sealing key. Afterwards the files
    outside are not needed on this machine any more: keep them where keys are kept. After a microcode update, with a
    higher ISVSVN, or on another machine they are brought in again, by an enclave that was built with them. With the
    same state.key, which lies beside the settings, what the enclave keeps in host/state then opens as before.
    """
    with extras("enclave"):
        from cloister.enclave import run as running
        from cloister.enclave import secret_import
        from cloister.enclave.place import lay_out
        from cloister.kit.enclave_state import KEY
    measured = running.checked(folder)
    place = at or folder
    lay_out(measured.kind, folder, place, here=_here(mesh, measured, folder), importer=importer)
    if not any((place / IMPORT).iterdir()):
        raise Stop(f"a {measured.kind.name} has no secrets that come from outside", ExitCode.USAGE)
    brought_in = secret_import.bring_in(measured, place)
    for name in brought_in:
        say(f"brought in: {name}")
    if KEY in brought_in:
        where = (place / IMPORT / KEY).readlink()
        say(f"keep {where} off this machine: without it host/state is lost with the CPU, with it anybody can read that")


def _here(mesh: Path | None, measured: Measurement, folder: Path) -> Configuration | None:
    """Where what the enclave's settings name lies on this machine, if it is not where it was built."""
    if mesh is None:
        return None
    from cloister.cli.enclave_mesh import settings_in
    from cloister.enclave.configuration import configuration_here

    return configuration_here(measured.kind, settings_in(mesh, measured.kind), folder)


def _attest(place: Path, folder: Path, platform: Path) -> None:
    """Have the simulator answer for the CPU, for as long as this process, which becomes the enclave, lives."""
    files = place / ATTESTATION
    ready = files / _READY
    ready.unlink(missing_ok=True)
    options = ("--platform", platform, "--enclave", folder, "--until-exit-of", os.getpid())
    process = subprocess.Popen(  # noqa: S603  # our own program
        [executable(SIMULATOR), "attestation", str(files), *map(str, options)], stdin=subprocess.DEVNULL
    )
    until = time.monotonic() + _WITHIN_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise Stop("the simulator does not answer for the CPU; what it said stands above")
        time.sleep(_POLL_S)
