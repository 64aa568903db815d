"""Which programs make a mesh on this machine, and in which order they start.

Drained in reverse: the gateway stops accepting while its workers still answer, workers leave while the verifier still
listens, and Redis ends when nobody keeps anything there any more.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cloister.cli import redis_files
from cloister.cli.executables import SIMULATOR, WORKER, executable
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.ports import free_ports, is_free, port_of

VERIFIER = "verifier"
NO_HTTPS = "CLOISTER_GATEWAY_REST_LISTEN"
"""Set to nothing."""
CONSOLE = "console"
REDIS = "redis"
REDIS_SERVER = "redis-server"
NO_JOBS = "CLOISTER_GATEWAY_JOBS_ENABLED"
"""Set to false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One process of the mesh.

    Attributes:
        name: Of its log file, such as `worker-1`; the first gateway is `gateway`.
        service: redis, verifier, provisioner, worker, gateway or console; attestation, beside enclaves.
        command: Executable and arguments; never a secret.
        address: Where it listens, host:port.
        environment: Added to ours; all that it gets, where it is an enclave or serves one.
        https: Where it answers HTTPS too, host:port; empty for nowhere.
        place: Folder that it starts in; None for ours.
        enclave: Which it is, `worker simulated 3f0c12ab`, say; empty for a plain process.
        ready_file: There when it is ready, where it listens nowhere.
        started_with: Files that it reads once: it is started anew when they change.
        mended_by: Run to its end before each start, if its last word is a file; what it asks is answered with yes.
    """

    name: str
    service: str
    command: Sequence[str]
    address: str
    environment: Mapping[str, str] = field(default_factory=dict)
    https: str = ""
    place: Path | None = None
    enclave: str = ""
    ready_file: Path | None = None
    started_with: Sequence[Path] = ()
    mended_by: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many of what.

    Attributes:
        workers: Each a process.
        gateways: Each on a port of its own; the first on the mesh's.
        gateway_processes: Of each gateway, behind its port; None for what its settings say.
        https: Whether the first gateway answers HTTPS too, where the mesh has an address for it.
        console: Whether the web console runs beside it, where the mesh has an address for it.
        jobs: Whether the gateways take jobs, where their settings say in which Redis.
    """

    workers: int
    gateways: int = 1
    gateway_processes: int | None = None
    https: bool = True
    console: bool = False
    jobs: bool = True


def stages(mesh: Mesh, size: Size, *, simulated: bool) -> list[list[Program]]:
    """The programs in starting order; those of one stage start together.

    Raises:
        Stop: The mesh is simulated and that was not asked for (or the reverse), a program is missing, a port is taken.
    """
    _agreed(mesh, simulated)
    gateway, verifier, provisioner = (
        _service(mesh, name, address, simulated=simulated) for name, address in _addresses(mesh).items()
    )
    standbys = [_standby(mesh, provisioner, name) for name in mesh.provisioners if name != provisioner.name]
    held = [
        *_addresses(mesh).values(),
        *mesh.provisioners.values(),
        mesh.verifier_https,
        mesh.gateway_https,
        mesh.console,
        mesh.redis,
    ]
    taken = [port_of(address) for address in held if address]
    ports = free_ports(size.workers + size.gateways - 1, besides=taken, first=min(taken))
    workforce = [
        _worker(mesh, number, port, simulated=simulated) for number, port in enumerate(ports[: size.workers], start=1)
    ]
    further = [_further(gateway, number, port) for number, port in enumerate(ports[size.workers :], start=2)]
    gateway = _with_https(mesh, gateway, wanted=size.https)
    gateways = [_with_processes(each, size.gateway_processes) for each in (gateway, *further)]
    if not size.jobs:
        gateways = [replace(each, environment={**each.environment, NO_JOBS: "false"}) for each in gateways]
    redis = [[_redis(mesh)]] if size.jobs and redis_files.is_own(mesh) else []
    consoles = [[_console(mesh)]] if size.console and mesh.console else []
    # One after the other: so the first one makes the state.
    services = [[verifier, provisioner], *([each] for each in standbys)]
    return [*redis, *services, [*workforce, *gateways], *consoles]


def _agreed(mesh: Mesh, simulated: bool) -> None:
    if mesh.simulated and not simulated:
        raise Stop(
            "the workers of this mesh are simulated and would protect nothing; say so with --simulator, "
            "or found another mesh without it",
            ExitCode.USAGE,
        )
    if simulated and not mesh.simulated:
        raise Stop(
            "this mesh was founded for SGX and believes no simulated worker; found another one with "
            "'cloister init DIR --model NAME --simulator'",
            ExitCode.USAGE,
        )


def _addresses(mesh: Mesh) -> dict[str, str]:
    return {"gateway": mesh.gateway, "verifier": mesh.verifier, "provisioner": mesh.provisioners["provisioner"]}


def _service(mesh: Mesh, name: str, address: str, *, simulated: bool) -> Program:
    _check_free(mesh, name, address, "listen")
    if name == VERIFIER and mesh.verifier_https:
        _check_free(mesh, name, mesh.verifier_https, "https_listen")
    command: Sequence[str] = (executable(f"cloister-{name}"), "--settings", str(mesh.settings(name).absolute()))
    if name == VERIFIER and simulated:
        command = _simulated(mesh, name)
    return Program(name=name, service=name, command=command, address=address)


def _further(first: Program, number: int, port: int) -> Program:
    """Another gateway with the settings of the first: same identity and workers, its own port and no other."""
    name, address = f"{first.name}-{number}", f"127.0.0.1:{port}"
    environment = {
        "CLOISTER_GATEWAY_NAME": name,
        "CLOISTER_GATEWAY_LISTEN": address,
        "CLOISTER_GATEWAY_METRICS_LISTEN": "",
        NO_HTTPS: "",
    }
    return replace(first, name=name, address=address, environment=environment)


def _standby(mesh: Mesh, first: Program, name: str) -> Program:
    """Another provisioner with the settings, and so the state, of the first."""
    address = mesh.provisioners[name]
    _check_free(mesh, "provisioner", address, "listen")
    environment = {"CLOISTER_PROVISIONER_LISTEN": address, "CLOISTER_PROVISIONER_METRICS_LISTEN": ""}
    return replace(first, name=name, address=address, environment=environment)


def _with_https(mesh: Mesh, gateway: Program, *, wanted: bool) -> Program:
    if not wanted or not mesh.gateway_https:
        return replace(gateway, environment={**gateway.environment, NO_HTTPS: ""})
    _check_free(mesh, "gateway", mesh.gateway_https, "rest_listen")
    return replace(gateway, https=mesh.gateway_https)


def _redis(mesh: Mesh) -> Program:
    if not is_free(mesh.redis):
        raise Stop(
            f"{mesh.redis} is taken by another program; stop that one, start with --no-jobs, or change 'tls-port' in "
            f"{mesh.redis_folder / redis_files.CONFIGURATION}, the address in {mesh.folder / 'mesh.toml'} and the url "
            f"in {mesh.settings('gateway')}"
        )
    folder = mesh.redis_folder.absolute()
    # A transaction that was torn while it was written stays open in the file, and what is kept after it is lost with
    # the start after the next one; Redis's own tool takes the rest of it away.
    check = shutil.which("redis-check-aof")
    # A title of its own making would hide from `running` whose process it is.
    words = (str(folder / redis_files.CONFIGURATION), "--set-proc-title", "no")
    return Program(
        name=REDIS,
        service=REDIS,
        command=(shutil.which(REDIS_SERVER) or REDIS_SERVER, *words),
        address=mesh.redis,
        place=folder,
        started_with=redis_files.files_read(mesh),
        mended_by=(check, "--fix", str(folder / redis_files.DATA / redis_files.MANIFEST)) if check else (),
    )


def _console(mesh: Mesh) -> Program:
    if not is_free(mesh.console):
        raise Stop(f"{mesh.console} is taken by another program; stop that one, or start with --no-console")
    # With the slash that tells `running` a process of this folder from one of another whose name begins alike.
    command = (executable("cloister"), CONSOLE, f"{mesh.folder.absolute()}/")
    return Program(name=CONSOLE, service=CONSOLE, command=command, address=mesh.console)


def _with_processes(gateway: Program, processes: int | None) -> Program:
    if processes is None:
        return gateway
    return replace(gateway, environment={**gateway.environment, "CLOISTER_GATEWAY_PROCESSES": str(processes)})


def _check_free(mesh: Mesh, name: str, address: str, setting: str) -> None:
    if not is_free(address):
        raise Stop(
            f"{address} is taken by another program; stop that one, or change '{setting}' in {mesh.settings(name)} "
            f"and the address in {mesh.folder / 'mesh.toml'} and in the other settings"
        )


def _simulated(mesh: Mesh, service: str) -> Sequence[str]:
    """The simulator's program for a service that makes evidence."""
    settings, platform = mesh.settings(service).absolute(), (mesh.folder / "simulator").absolute()
    return (executable(SIMULATOR), service, "--settings", str(settings), "--platform", str(platform))


def _worker(mesh: Mesh, number: int, port: int, *, simulated: bool) -> Program:
    command: Sequence[str]
    if simulated:
        command = _simulated(mesh, "worker")
    else:
        command = (executable(WORKER), "--settings", str(mesh.settings("worker").absolute()))
    address = f"127.0.0.1:{port}"
    environment = {"CLOISTER_WORKER_LISTEN": address, "CLOISTER_WORKER_ENDPOINT": address}
    return Program(name=f"worker-{number}", service="worker", command=command, address=address, environment=environment)
