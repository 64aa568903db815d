"""The units of deploy/systemd, run by a systemd that is the first process of a container: a mesh on one host."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.cli.ports import free_ports
from cloister.enclave.configuration import as_inside
from cloister.enclave.kinds import WORKER
from fakes.containers import BIN, ENGINE, REPOSITORY, eventually, image, published, run
from fakes.guide import GUIDES

OWNED = {
    "redis": ("redis", "identities/redis"),
    "verifier": ("verifier", "identities/verifier", "simulator-verifier"),
    "provisioner": ("provisioner", "identities/provisioner"),
    "gateway": ("gateway", "identities/gateway", "redis/gateway.password", "redis/shared.key"),
    "worker": ("worker", "identities/enrol", "models", "simulator-worker"),
}
"""What docs/guides/systemd.md gives each service of the mesh's folder, and a simulated platform."""
UNITS = ("redis", "verifier", "provisioner", "gateway", "worker@1")
SIMULATED = """\
[Service]
ExecStart=
ExecStart=/opt/cloister/bin/cloister-simulator {0} --settings /etc/cloister/{0}/settings.toml \
--platform /etc/cloister/simulator-{0}
"""
MOST_EXPOSED = 2.0


class Machine:
    """A container that systemd has booted, on this machine's network.

    Args:
        folder: With `mesh`, its /etc/cloister.
    """

    def __init__(self, folder: Path) -> None:
        self.mesh, self._name = folder / "mesh", f"cloister-{folder.name}-{os.getpid()}"
        self._engine = folder / "containers.conf"
        self._engine.write_text(ENGINE)

    def podman(self, *words: object) -> str:
        """Run podman."""
        return run("podman", *words, CONTAINERS_CONF=str(self._engine))

    def run(self, *words: object) -> str:
        """Run a program in it, as root."""
        return self.podman("exec", self._name, *words)

    def boot(self) -> None:
        """Start it. Its services have file systems of their own, so it must be able to mount, and nothing more."""
        mesh = f"--volume={self.mesh}:/etc/cloister"
        limits = ("--ulimit=nofile=16384:16384", "--ulimit=nproc=4096:4096")
        words = ("--systemd=always", "--cap-add=SYS_ADMIN", "--network=host", mesh, *limits)
        self.podman("run", "--detach", "--name", self._name, *words, image("systemd"))
        eventually(self._booted)

    def process(self, unit: str) -> int:
        """The process that a unit runs; 0 where it runs none."""
        return int(self.run("systemctl", "show", "--property=MainPID", "--value", f"cloister-{unit}"))

    def remove(self) -> None:
        """End it."""
        self.podman("rm", "--force", "--time", "5", self._name)

    def _booted(self) -> bool:
        try:
            return "active" in self.run("systemctl", "show", "--property=ActiveState", "--value", "multi-user.target")
        except AssertionError:  # it does not answer yet
            return False


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One on which docs/guides/systemd.md was followed, with the simulator in the place of SGX."""
    folder = tmp_path_factory.mktemp("systemd")
    first = free_ports(1)[0]
    founded = ("--model", "breast-cancer", "--simulator", "--port", first)
    run(BIN / "cloister", "init", folder / "mesh", *founded)
    run("sh", "deploy/images/build.sh", "systemd")
    machine = Machine(folder)
    try:
        machine.boot()
        _installed(machine, free_ports(1, besides=range(first, first + 8))[0])
        yield machine
    finally:
        machine.remove()


def _installed(machine: Machine, worker_port: int) -> None:
    (machine.mesh / "worker" / "1.env").write_text(f"CLOISTER_WORKER_LISTEN=127.0.0.1:{worker_port}\n")
    for service in ("verifier", "worker"):
        run("cp", "-r", machine.mesh / "simulator", machine.mesh / f"simulator-{service}")
    machine.run("systemd-sysusers")
    machine.run("chmod", "755", "/etc/cloister")  # a folder of a mesh is its founder's alone
    machine.run("chmod", "711", *(f"/etc/cloister/{name}" for name in ("redis", "verifier", "verifier/signing_keys")))
    machine.run("chmod", "644", "/etc/cloister/verifier/signing_keys/key_set.json")
    for service, names in OWNED.items():
        machine.run("chown", "-R", f"cloister-{service}:", *(f"/etc/cloister/{name}" for name in names))
    for unit, service in (("verifier", "verifier"), ("worker@", "worker")):
        place = f"/etc/systemd/system/cloister-{unit}.service.d"
        text = SIMULATED.format(service) + ("SupplementaryGroups=\n" if service == "worker" else "")
        machine.run("sh", "-c", f"mkdir -p {place}; printf %s '{text}' > {place}/simulated.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--now", *(f"cloister-{unit}" for unit in UNITS))


@pytest.fixture(scope="module")
def record(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs for a model that is published, allowed and served."""
    return published(machine.mesh, tmp_path_factory.mktemp("model"), machine.mesh / "models")


def test_a_worker_in_an_enclave_has_what_its_unit_reads_of_the_mesh(machine: Machine) -> None:
    assert "--mesh /etc/cloister" in (REPOSITORY / "deploy" / "systemd" / "cloister-worker@.service").read_text()
    (row,) = re.findall(r"^\| `cloister-worker@N`.*$", (GUIDES / "systemd.md").read_text(), re.MULTILINE)
    given = [name for name in re.findall(r"`([^`]+)`", row) if (machine.mesh / name).exists()]
    needed = as_inside(WORKER, machine.mesh / "worker" / "settings.toml").files.values()
    for _, file in needed:
        assert any(file.resolve().is_relative_to((machine.mesh / name).resolve()) for name in given), file


def answered(machine: Machine, record: Path) -> bool:
    try:
        words = ("infer", "breast-cancer", "--input", record, "--mesh", machine.mesh, "--json")
        return "outputs" in json.loads(run(BIN / "cloister", *words))
    except AssertionError:  # it is on its way
        return False


def test_a_sealed_request_is_answered(machine: Machine, record: Path) -> None:
    assert answered(machine, record)


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_that_what_runs_could_do_little(machine: Machine, record: Path, unit: str) -> None:
    found = re.search(
        r"exposure level for .*: ([0-9.]+)", machine.run("systemd-analyze", "security", f"cloister-{unit}")
    )
    assert found is not None
    assert float(found[1]) <= MOST_EXPOSED
    status = machine.run("cat", f"/proc/{machine.process(unit)}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (fields["NoNewPrivs"], fields["Seccomp"], int(fields["CapEff"], 16)) == ("1", "2", 0)


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_killed_comes_back(machine: Machine, record: Path, unit: str) -> None:
    before = machine.process(unit)
    machine.run("systemctl", "kill", "--signal=KILL", f"cloister-{unit}")
    eventually(lambda: machine.process(unit) not in (0, before))
    eventually(lambda: answered(machine, record))
