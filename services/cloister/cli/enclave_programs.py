"""`cloister up --enclaves`: programs of a mesh as the enclaves that were built for it, each in a place of its own.

What an enclave keeps on this machine, its encrypted state above all, is in MESH/instances/NAME. In a simulated mesh
each has the simulator's attestation files beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cloister.cli.enclave_mesh import settings_of
from cloister.cli.executables import SIMULATOR, executable
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.ports import is_free
from cloister.cli.programs import REDIS, Program
from cloister.enclave import run, secret_import
from cloister.enclave.configuration import HOST, MESH, configuration_here
from cloister.enclave.kinds import KINDS, EnclaveSet
from cloister.enclave.measurement import NAME, Measurement
from cloister.enclave.place import ATTESTATION

_SHORT: Final = 8
_TYPE: Final = "attestation_type"


@dataclass(frozen=True, slots=True)
class Enclaves:
    """What was built for a mesh.

    Attributes:
        folder: Where, each in a folder that is called as its kind.
        measured: By the kind's name.
    """

    folder: Path
    measured: Mapping[str, Measurement]

    @classmethod
    def read(cls, folder: Path, mesh: Mesh) -> Enclaves:
        """Look at what is there, and check that it is what was measured, for this mesh as it is set up now.

        Raises:
            Stop: Nothing was built there, or for another mesh, set or settings.
            InvalidRequest, NotReady: As `run.checked`.
        """
        kinds = [name for name in KINDS if (folder / name / NAME).is_file()]
        if not kinds:
            raise Stop(
                f"there are no enclaves in {folder}; 'cloister enclave build-mesh {mesh.folder} --out {folder}' "
                "builds them",
                ExitCode.USAGE,
            )
        built = cls(folder, {name: run.checked(folder / name) for name in kinds})
        for name, measured in built.measured.items():
            _check_for(mesh, folder / name, measured)
        return built

    def started(self, mesh: Mesh, plan: Sequence[Sequence[Program]]) -> list[list[Program]]:
        """The stages of a mesh, with enclaves in the place of processes where there are any.

        Secrets that an enclave has not got yet are brought in.
        """
        if REDIS in self.measured:
            others = [[program for program in stage if program.service != REDIS] for stage in plan]
            plan = [[_redis(self.folder / REDIS)], *(stage for stage in others if stage)]
        stages = [[self._in_place_of(mesh, program) for program in stage] for stage in plan]
        if not mesh.simulated:
            return stages
        quoting = [each for stage in stages for each in stage if each.enclave and KINDS[each.service].quotes]
        return [[_attestation(mesh, self.folder, each) for each in quoting], *stages]

    def _in_place_of(self, mesh: Mesh, program: Program) -> Program:
        measured = self.measured.get(program.service)
        if measured is None:
            return program
        if program.https or program.environment.keys() - measured.kind.host_chosen:
            raise Stop(
                f"{program.name} is an enclave, which has no HTTPS and takes fewer settings from its host than this: "
                f"start one gateway with --no-https, or leave out {self.folder / program.service}",
                ExitCode.USAGE,
            )
        place = instance(mesh, program.name)
        launch = run.launch(self.folder / program.service, place, measured, {**os.environ, **program.environment})
        if secret_import.awaited(place):
            secret_import.bring_in(measured, place)
        return replace(
            program,
            command=launch.command,
            environment=launch.environment,
            place=launch.place,
            enclave=f"{measured.kind.name} {measured.enclave_set} {measured.mrenclave[:_SHORT]}",
        )


def instance(mesh: Mesh, name: str) -> Path:
    """Where an enclave of a mesh runs, and keeps what it keeps."""
    return mesh.folder / "instances" / name


def _check_for(mesh: Mesh, folder: Path, measured: Measurement) -> None:
    wanted = EnclaveSet.SIMULATED if mesh.simulated else EnclaveSet.HARDENED
    if measured.enclave_set is not wanted:
        raise Stop(
            f"{folder} holds a {measured.enclave_set} enclave, and this mesh believes {wanted} ones", ExitCode.USAGE
        )
    configuration_here(measured.kind, settings_of(mesh, measured.kind), folder)


def _redis(folder: Path) -> Program:
    lines = (folder / MESH / "redis.conf").read_text().splitlines()
    said = {name: value for name, _, value in (line.partition(" ") for line in lines)}
    address = f"{said.get('bind', '127.0.0.1').split()[0]}:{said['tls-port']}"
    if not is_free(address):
        raise Stop(f"{address} is taken by another program; stop that one, or change 'tls-port' and build redis again")
    started_with = [folder / HOST / name for name in KINDS[REDIS].host]
    return Program(name=REDIS, service=REDIS, command=(), address=address, started_with=started_with)


def _attestation(mesh: Mesh, folder: Path, program: Program) -> Program:
    """The simulator's program that answers an enclave's questions for quotes."""
    assert program.place is not None
    files = program.place / ATTESTATION
    (files / _TYPE).unlink(missing_ok=True)  # of one that was killed
    options = ("--platform", mesh.folder / "simulator", "--enclave", folder / program.service)
    return Program(
        name=f"{program.name}-attestation",
        service="attestation",
        command=(executable(SIMULATOR), "attestation", str(files), *map(str, options)),
        address="",
        ready_file=files / _TYPE,
    )
