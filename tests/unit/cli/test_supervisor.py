"""Order: started stage by stage, drained in reverse, all stopped when one cannot start."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloister.cli import keeper, programs, redis_files, supervisor
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.programs import Program, Size
from cloister.cli.supervisor import Supervisor
from cloister.gateway.settings import Settings as GatewaySettings
from cloister.kit.config import load

TWO = Size(workers=2)


class FakeProbes:
    """A program is ready once its script has said so in a file named after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def ready(self, program: Program) -> bool:
        return (self.folder / program.name).exists()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    @asynccontextmanager
    async def opened(_: Mesh) -> AsyncIterator[FakeProbes]:
        yield FakeProbes(tmp_path)

    monkeypatch.setattr(supervisor.Probes, "opened", opened)
    monkeypatch.setattr(supervisor, "_POLL_S", 0.01)
    monkeypatch.setattr(keeper, "FIRST_PAUSE_S", 0.01)
    (tmp_path / "logs").mkdir()
    address = "127.0.0.1:1"
    return Mesh(
        folder=tmp_path, cluster="a.example", simulated=False, gateway=address, verifier=address, provisioner=address
    )


def script(mesh: Mesh, name: str, service: str, body: str = "") -> Program:
    lines = (
        f'trap "echo {name} >> {mesh.folder}/ended; exit 0" TERM',
        f"echo {name} >> {mesh.folder}/began",
        body or f"touch {mesh.folder}/{name}",
        "while kill -0 $PPID; do sleep 0.01; done",  # no longer than whoever runs the test
    )
    return Program(name=name, service=service, command=("/bin/sh", "-c", "\n".join(lines)), address=mesh.gateway)


def order(mesh: Mesh, what: str) -> list[str]:
    return (mesh.folder / what).read_text().split()


async def test_stages_start_in_order_and_drain_in_reverse(small: Mesh) -> None:
    said: list[str] = []
    seen: list[Any] = []
    state = small.folder / "up.json"

    def ready() -> None:
        seen.append(json.loads(state.read_text()))
        os.kill(os.getpid(), signal.SIGTERM)

    stages = [
        [script(small, "verifier", "verifier")],
        [script(small, "worker-1", "worker"), script(small, "gateway", "gateway")],
    ]
    await Supervisor(small, state, said.append).run(stages, ready)
    assert order(small, "began")[0] == "verifier"
    assert order(small, "ended") == ["gateway", "worker-1", "verifier"]
    assert seen[0]["ready"] is True
    assert [program["name"] for program in seen[0]["programs"]] == ["verifier", "worker-1", "gateway"]
    assert all(isinstance(program["pid"], int) for program in seen[0]["programs"])
    assert said[-2:] == ["draining", "stopped"]


async def test_a_signal_while_starting_stops_what_was_started(small: Mesh) -> None:
    stages = [
        [script(small, "verifier", "verifier")],
        [script(small, "gateway", "gateway", f"kill -TERM {os.getpid()}")],  # never ready
    ]
    announced: list[None] = []
    await Supervisor(small, small.folder / "up.json", lambda _: None).run(stages, lambda: announced.append(None))
    assert announced == []
    assert set(order(small, "ended")) >= {"verifier"}


async def test_a_program_that_is_never_ready_stops_all(small: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "START_S", 0.3)
    stages = [
        [script(small, "verifier", "verifier")],
        [script(small, "gateway", "gateway", "echo cannot listen")],
    ]
    with pytest.raises(Stop, match="cannot listen") as stopped:
        await Supervisor(small, small.folder / "up.json", lambda _: None).run(stages, lambda: None)
    assert stopped.value.code is ExitCode.UNAVAILABLE
    assert order(small, "ended") == ["gateway", "verifier"]


async def test_a_program_that_refuses_its_settings_stops_all(small: Mesh) -> None:
    stages = [[script(small, "verifier", "verifier", "echo 'listen: missing'; exit 2")]]
    async with asyncio.timeout(10):
        with pytest.raises(Stop, match="listen: missing"):
            await Supervisor(small, small.folder / "up.json", lambda _: None).run(stages, lambda: None)


def planned(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, *, simulated: bool, free: bool = True, size: Size = TWO
) -> Any:
    monkeypatch.setattr(programs, "is_free", lambda _: free)
    monkeypatch.setattr(programs, "free_ports", lambda count, besides, first: list(range(9000, 9000 + count)))
    monkeypatch.setattr(programs, "executable", lambda name: f"/bin/{name}")
    return programs.stages(mesh, size, simulated=simulated)


def test_the_programs_of_a_mesh(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    (redis,), first, second = planned(mesh, monkeypatch, simulated=False)
    assert (redis.name, redis.service, redis.address) == ("redis", "redis", mesh.redis)
    assert [program.name for program in first] == ["verifier", "provisioner"]
    assert [program.name for program in second] == ["worker-1", "worker-2", "gateway"]
    assert {program.command[0] for program in second} == {"/bin/cloister-worker", "/bin/cloister-gateway"}
    assert second[1].environment["CLOISTER_WORKER_LISTEN"] == second[1].address == "127.0.0.1:9001"


def test_further_gateways_have_ports_of_their_own_and_all_as_many_processes(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = Size(workers=1, gateways=3, gateway_processes=4)
    *_, (_, *gateways) = planned(mesh, monkeypatch, simulated=False, size=size)
    assert [gateway.name for gateway in gateways] == ["gateway", "gateway-2", "gateway-3"]
    assert [gateway.address for gateway in gateways] == [mesh.gateway, "127.0.0.1:9001", "127.0.0.1:9002"]
    assert {gateway.environment["CLOISTER_GATEWAY_PROCESSES"] for gateway in gateways} == {"4"}
    assert "CLOISTER_GATEWAY_LISTEN" not in gateways[0].environment
    assert gateways[2].environment["CLOISTER_GATEWAY_LISTEN"] == gateways[2].address
    (*_, (*_, alone)) = planned(mesh, monkeypatch, simulated=False)
    assert not alone.environment  # what its settings say


def test_simulated_workers_only_where_both_sides_say_so(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stop, match="founded for SGX"):
        planned(mesh, monkeypatch, simulated=True)
    fields = {name: getattr(mesh, name) for name in Mesh.__dataclass_fields__}
    pretended = Mesh(**{**fields, "simulated": True})
    with pytest.raises(Stop, match="--simulator"):
        planned(pretended, monkeypatch, simulated=False)
    _, (verifier, provisioner), (*workers, gateway) = planned(pretended, monkeypatch, simulated=True)
    assert {program.command[:2] for program in workers} == {("/bin/cloister-simulator", "worker")}
    assert verifier.command[:2] == ("/bin/cloister-simulator", "verifier")
    assert (provisioner.command[0], gateway.command[0]) == ("/bin/cloister-provisioner", "/bin/cloister-gateway")


def test_a_port_that_is_taken_is_named(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stop, match=mesh.gateway):
        planned(mesh, monkeypatch, simulated=False, free=False)


def test_the_port_of_the_verifiers_https_is_looked_at_too(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(mesh, monkeypatch, simulated=False)
    monkeypatch.setattr(programs, "is_free", lambda address: address != mesh.verifier_https)
    with pytest.raises(Stop, match=f"{mesh.verifier_https} is taken .* change 'https_listen'"):
        programs.stages(mesh, Size(workers=2), simulated=False)


def test_the_console_comes_last_where_it_is_wanted_and_has_an_address(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Size(workers=1, console=True)
    *_, (console,) = planned(mesh, monkeypatch, simulated=False, size=wanted)
    assert (console.command[:2], console.address) == (("/bin/cloister", "console"), mesh.console)
    assert console.command[2] == f"{mesh.folder.absolute()}/"  # so that one left behind is known as ours
    assert len(planned(replace(mesh, console=""), monkeypatch, simulated=False, size=wanted)) == 3
    assert len(planned(mesh, monkeypatch, simulated=False)) == 3
    monkeypatch.setattr(programs, "is_free", lambda address: address != mesh.console)
    with pytest.raises(Stop, match=f"{mesh.console} is taken .* --no-console"):
        programs.stages(mesh, wanted, simulated=False)


def test_redis_runs_in_its_folder_from_files_that_may_be_replaced(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    (redis,), *_ = planned(mesh, monkeypatch, simulated=False)
    folder = mesh.redis_folder.absolute()
    assert redis.place == folder
    assert redis.command[:2] == ("/bin/redis-server", str(folder / "redis.conf"))
    assert redis.command[2:] == ("--set-proc-title", "no")  # so that one left behind is known as ours
    assert redis.mended_by[:2] == ("/bin/redis-check-aof", "--fix")
    assert mesh.identity("redis") / "certificate.pem" in [path.resolve() for path in redis.started_with]


def test_a_redis_elsewhere_is_not_started_and_jobs_can_be_left_out(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, (*_, gateway) = first, *_ = planned(mesh, monkeypatch, simulated=False, size=replace(TWO, jobs=False))
    assert first[0].name == "verifier"
    assert gateway.environment == {"CLOISTER_GATEWAY_JOBS_ENABLED": "false"}
    settings = load(GatewaySettings, mesh.settings("gateway"), gateway.environment, prefix="CLOISTER_GATEWAY_")
    assert not settings.jobs.enabled
    monkeypatch.setattr(redis_files, "url_of_jobs", lambda _: "rediss://redis.example:6379")
    first, *_, (*_, gateway) = planned(mesh, monkeypatch, simulated=False)
    assert (first[0].name, gateway.environment) == ("verifier", {})


def test_the_port_of_redis_is_looked_at_too(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(mesh, monkeypatch, simulated=False)
    monkeypatch.setattr(programs, "is_free", lambda address: address != mesh.redis)
    with pytest.raises(Stop, match=f"{mesh.redis} is taken .* --no-jobs, or change 'tls-port'"):
        programs.stages(mesh, TWO, simulated=False)


async def test_a_program_that_never_starts_is_not_waited_for(small: Mesh) -> None:
    said = """echo '{"error":"NotReady: no policy"}'; exit 1"""
    stages = [[script(small, "verifier", "verifier", said)]]
    with pytest.raises(Stop, match="verifier ends whenever it is started: NotReady: no policy") as stopped:
        async with asyncio.timeout(20):
            await Supervisor(small, small.folder / "up.json", [].append).run(stages, lambda: None)
    assert stopped.value.code is ExitCode.FAILED
    assert order(small, "began").count("verifier") == supervisor.TRIES
