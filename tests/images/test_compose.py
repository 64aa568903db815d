"""A mesh of containers on one host, by deploy/compose: nobody's, read-only, asked from outside, and killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.cli.ports import free_ports
from fakes.containers import BIN, ENGINE, Containers, eventually, published, run


def cloister(*words: object) -> str:
    """Run a `cloister` command of this repository, outside the containers."""
    return run(BIN / "cloister", *words)


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    folder = tmp_path_factory.mktemp("compose")
    engine = folder / "containers.conf"
    engine.write_text(ENGINE)
    first = free_ports(1)[0]
    mesh = folder / "mesh"
    cloister("init", mesh, "--model", "breast-cancer", "--simulator", "--port", first)
    names = ("redis", "verifier", "provisioner", "gateway", "worker", "simulator", "models")
    services = [mesh / name for name in names]
    roles = [mesh / "identities" / role for role in ("redis", "verifier", "provisioner", "gateway", "enrol")]
    run("chown", "-R", "10001:10001", *services, *roles)
    up = Containers(mesh, engine, free_ports(1, besides=range(first, first + 8))[0])
    up.compose("up", "-d", "--no-build")
    try:
        yield up
    finally:
        up.compose("down", "--volumes")


@pytest.fixture(scope="module")
def record(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs for a model that is published, allowed and served."""
    return published(containers.mesh, tmp_path_factory.mktemp("model"), containers.mesh / "models")


def test_a_sealed_request_is_answered(containers: Containers, record: Path) -> None:
    assert "outputs" in cloister("infer", "breast-cancer", "--input", record, "--mesh", containers.mesh, "--json")


@pytest.mark.parametrize("service", ["redis", "verifier", "provisioner", "gateway", "worker"])
def test_a_container_can_do_nothing_else(containers: Containers, record: Path, service: str) -> None:
    found = json.loads(containers.podman("inspect", containers.container(service)))[0]
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert not found["EffectiveCaps"]
    status = Path(f"/proc/{found['State']['Pid']}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == {"10001"}
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["CapEff"], 16) == 0


@pytest.mark.parametrize("service", ["gateway", "verifier", "worker", "redis"])
def test_a_container_sees_no_key_of_the_provisioner(containers: Containers, record: Path, service: str) -> None:
    found = json.loads(containers.podman("inspect", containers.container(service)))[0]
    seen = Path("/proc", str(found["State"]["Pid"]), "root", "etc", "cloister")
    assert seen.is_dir()
    assert not (seen / "provisioner").exists()


@pytest.mark.parametrize("service", ["worker", "provisioner", "gateway", "verifier", "redis"])
def test_a_killed_container_comes_back(containers: Containers, record: Path, service: str) -> None:
    before = json.loads(containers.podman("inspect", containers.container(service)))[0]["State"]["Pid"]
    os.kill(before, 9)

    def back() -> bool:
        state = json.loads(containers.podman("inspect", containers.container(service)))[0]["State"]
        return bool(state["Running"] and state["Pid"] not in (0, before))

    eventually(back)
    eventually(lambda: _answers(containers, record))


def _answers(containers: Containers, record: Path) -> bool:
    try:
        return "outputs" in cloister("infer", "breast-cancer", "--input", record, "--mesh", containers.mesh, "--json")
    except AssertionError:  # it is on its way
        return False
