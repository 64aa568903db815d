"""Programs of a mesh as enclaves: who is one, what it is started with, and what is refused before anything starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cloister.cli import enclave_mesh
from cloister.cli.enclave_programs import Enclaves
from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.programs import Program
from cloister.enclave import gramine, service_settings
from cloister.enclave.kinds import WORKER, EnclaveSet
from cloister.enclave.measurement import Measurement
from cloister.errors import InvalidRequest
from fakes.built_enclave import Built
from fakes.founded import found

LISTEN, ENDPOINT = "CLOISTER_WORKER_LISTEN", "CLOISTER_WORKER_ENDPOINT"
ADDRESS = "127.0.0.1:7506"


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    """Simulated, on a machine where Gramine's programs start nothing."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in (gramine.DIRECT, gramine.SGX):
        (programs / name).write_text("#!/bin/sh\nexit 1\n")
        (programs / name).chmod(stat.S_IRWXU)
    founded = found(tmp_path / "mesh", monkeypatch, simulated=True)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return founded


@pytest.fixture
def built(mesh: Mesh, tmp_path: Path) -> Path:
    """A worker that was built for this mesh, and nothing else."""
    build(mesh, tmp_path / "enclaves", EnclaveSet.SIMULATED)
    return tmp_path / "enclaves"


def build(mesh: Mesh, folder: Path, enclave_set: EnclaveSet) -> None:
    settings = service_settings.rewritten(WORKER, mesh.settings("worker")).content.decode()
    Built(enclave_set=enclave_set, code={"mesh/settings.toml": settings}).into(folder / "worker")
    for part in ("host", "import"):
        (folder / "worker" / part).mkdir()


def program(service: str, number: int = 1, **environment: str) -> Program:
    name = f"{service}-{number}" if service == "worker" else service
    return Program(name=name, service=service, command=("a process",), address=ADDRESS, environment=environment)


def test_what_is_built_is_an_enclave_and_the_rest_are_processes(mesh: Mesh, built: Path) -> None:
    worker = program("worker", **{LISTEN: ADDRESS, ENDPOINT: ADDRESS})
    plan = Enclaves.read(built, mesh).started(mesh, [[program("verifier")], [worker, program("gateway")]])
    attestation, verifiers, (enclave, gateway) = plan
    assert verifiers == [program("verifier")]
    assert gateway == program("gateway")
    place = mesh.folder.absolute() / "instances" / "worker-1"
    assert (Path(enclave.command[0]).name, enclave.command[1]) == (gramine.DIRECT, str(place / "worker"))
    assert enclave.environment == {LISTEN: ADDRESS, ENDPOINT: ADDRESS, "PATH": os.environ["PATH"]}
    assert enclave.enclave.startswith("worker simulated ")
    assert [each.name for each in attestation] == ["worker-1-attestation"]
    assert attestation[0].ready_file == place / "host" / "attestation" / "attestation_type"


def test_an_attestation_type_that_was_left_behind_is_not_taken_for_ready(mesh: Mesh, built: Path) -> None:
    left = mesh.folder / "instances" / "worker-1" / "host" / "attestation" / "attestation_type"
    left.parent.mkdir(parents=True)
    left.write_text("dcap")
    Enclaves.read(built, mesh).started(mesh, [[program("worker")]])
    assert not left.exists()


def test_no_enclaves_is_wrong_usage(mesh: Mesh, tmp_path: Path) -> None:
    with pytest.raises(Stop, match="build-mesh"):
        Enclaves.read(tmp_path, mesh)


def test_a_hardened_enclave_is_not_for_a_simulated_mesh(mesh: Mesh, tmp_path: Path) -> None:
    build(mesh, tmp_path / "enclaves", EnclaveSet.DEBUG)
    with pytest.raises(Stop, match="holds a debug enclave, and this mesh believes simulated ones"):
        Enclaves.read(tmp_path / "enclaves", mesh)


def test_settings_that_changed_since_the_build_are_noticed(mesh: Mesh, built: Path) -> None:
    settings = mesh.settings("worker")
    settings.write_text(f"threads = 1\n{settings.read_text()}")
    with pytest.raises(InvalidRequest, match="was built from other settings"):
        Enclaves.read(built, mesh)


def test_what_an_enclave_would_not_hear_is_not_said_to_it(mesh: Mesh, built: Path) -> None:
    with pytest.raises(Stop, match="takes fewer settings from its host"):
        Enclaves.read(built, mesh).started(mesh, [[program("worker", CLOISTER_WORKER_THREADS="1")]])


def test_verifier_and_clients_believe_the_worker_that_was_built_and_no_other(mesh: Mesh, built: Path) -> None:
    measured = Measurement.read(built / "worker")
    for _ in range(2):  # the second time there is a policy already
        enclave_mesh._believe(mesh, measured, built / "worker")
        assert 'policy = "policy.toml"' in mesh.settings("verifier").read_text()
        policy = (mesh.folder / "verifier" / "policy.toml").read_text()
        assert policy.count("[[reference_values]]") == policy.count(measured.mrenclave) == 1
        assert f'"{measured.mrenclave}"' in mesh.trust.read_text()
