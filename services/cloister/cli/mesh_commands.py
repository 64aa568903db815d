"""`cloister init`, `up`, `down` and `status`: a whole mesh on one machine."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister.cli import founding, programs, redis_files, running
from cloister.cli.console_command import can_serve
from cloister.cli.executables import SIMULATOR, executable
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.mesh_status import HTTPS, SIMULATED, print_status, status_of
from cloister.cli.options import FOLDER, AsJson, MeshArgument, examples, hex_32
from cloister.cli.output import facts, print_json, say, warn
from cloister.cli.ports import FIRST
from cloister.cli.preparing import extras
from cloister.cli.probes import SERVICES
from cloister.cli.supervisor import START_S, Supervisor

UNPINNED = (
    "No measurement was named: the verifier will not start, and clients will believe nobody until trust.json does. "
    "Found the mesh anew with 'cloister init DIR --model NAME --mrenclave ...'; or name it with "
    "'cloister trust accept --mrenclave', and in a policy with reference_values that verifier/settings.toml names."
)
DRAIN_S = 120.0

Simulated = Annotated[
    bool, typer.Option("--simulator", help="Simulated workers, for machines without SGX. They protect nothing.")
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command(epilog=examples("cloister init .cloister --model breast-cancer --simulator"))(init)
    app.command(
        epilog=examples(
            "cloister up .cloister --simulator",
            "cloister up .cloister --simulator --detach",
            "cloister up .cloister --simulator --enclaves enclaves",
        )
    )(up)
    app.command(epilog=examples("cloister down .cloister"))(down)
    app.command(epilog=examples("cloister status .cloister", "cloister status .cloister --json"))(status)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make; must be empty or absent.")] = FOLDER,
    *,
    model: Annotated[
        list[str], typer.Option(help="Model that the workers serve, NAME or NAME@VERSION; may be repeated.")
    ],
    cluster: Annotated[
        str, typer.Option(help="Name of the mesh, like a DNS domain: the trust domain of all identities.")
    ] = "demo.cloister.internal",
    host: Annotated[
        list[str] | None,
        typer.Option(help="Further name or address of gateway and verifier, for clients elsewhere."),
    ] = None,
    mrenclave: Annotated[
        list[str] | None,
        typer.Option(help="Measurement of workers to believe; repeat. (default: the code here, if it is simulated)"),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1024, max=65000, help="The services and workers take the first free ports from here on.")
    ] = FIRST,
    provisioners: Annotated[
        int, typer.Option(min=1, max=4, help="How many provisioners, on one state: one serves, the others stand by.")
    ] = 1,
    simulator: Simulated = False,
) -> None:
    """Found a mesh: make its keys, identities, settings and trust bundle in one folder.

    Makes the root CA, a CA for attested workers, identities for every service and for one owner, client, operator and
    auditor, the provisioner's root key, and trust.json, which clients must get from you. Take measurements from a build
    you made or checked yourself. A folder that is not empty is left alone.
    """
    plan = founding.Plan(
        folder=folder,
        cluster=cluster,
        models=model,
        hosts=host or (),
        simulated=simulator,
        mrenclave=sorted(hex_32(mrenclave or ())),
        first_port=port,
        provisioners=provisioners,
    )
    mesh = founding.found(plan, datetime.now(UTC))
    say(f"mesh {mesh.cluster} founded in {folder}", "bold")
    facts(
        {
            "trust bundle": f"{mesh.trust}  (give it to clients; it holds no secret)",
            "root CA key": f"{folder / 'pki' / 'root_ca.key'}  (only new identities need it: keep it offline)",
            "verifier": f"https://{mesh.verifier_https}  (where clients can pin it: cloister trust pin)",
            "identities": f"{folder / 'identities'}  (owner/main, client/main, operator/main, auditor/main, ...)",
        },
        indent="  ",
    )
    if simulator:
        warn(SIMULATED)
    else:
        if not mrenclave:
            warn(UNPINNED)
        collateral = folder / "verifier" / "collateral.json"
        say(f"before 'up', put Intel's collateral for your platform at {collateral}; 'cloister collateral' fetches it")
    say(f"next: cloister up {folder}{' --simulator' if simulator else ''}")


def up(
    folder: MeshArgument = FOLDER,
    workers: Annotated[int, typer.Option(min=0, max=64, help="How many workers; none while an owner prepares.")] = 2,
    gateways: Annotated[int, typer.Option(min=1, max=16, help="How many gateways, each on a port of its own.")] = 1,
    gateway_processes: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="How many processes each gateway has behind its port.  [default: as set]"),
    ] = None,
    https: Annotated[bool, typer.Option(help="Whether the gateway answers HTTPS (REST) too.")] = True,
    console: Annotated[bool, typer.Option(help="The web console beside it.")] = True,
    jobs: Annotated[bool, typer.Option(help="Take jobs, which wait in Redis.")] = True,
    simulator: Simulated = False,
    enclaves: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Enclaves that were built for this mesh; what is not there is a process."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once all is ready; leave it running.")] = False,
) -> None:
    """Run a mesh on this machine: verifier, provisioner, workers, gateway and console, each a process of its own.

    Keeps them running, each with its own log in DIR/logs; one that dies starts again. Ctrl-C (or 'cloister down')
    drains: the gateway finishes what is under way, then the workers leave, then the rest ends. Jobs wait in a Redis
    that is started with the mesh, from DIR/redis, unless the gateway's settings name another one.

    With --enclaves, as 'cloister enclave build-mesh' makes them, programs run under Gramine; what each keeps on this
    machine is in DIR/instances.
    """
    mesh = Mesh.read(folder)
    size = programs.Size(
        workers=workers,
        gateways=gateways,
        gateway_processes=gateway_processes,
        https=https,
        console=console and can_serve(),
        jobs=jobs and _can_keep_jobs(mesh, enclaves),
    )
    plan: list[list[programs.Program]] = []
    if not running.is_up(folder):
        running.take_down(folder, DRAIN_S)  # what a killed supervisor left behind holds the ports
        plan = programs.stages(mesh, size, simulated=simulator)
    if detach and plan:
        _detached(mesh, size, enclaves, simulator=simulator)
        return
    with running.supervising(folder) as state:
        (folder / "logs").mkdir(exist_ok=True)
        if simulator:
            warn(SIMULATED)
            _renew_collateral(folder / "simulator")
        if enclaves is not None:
            plan = _as_enclaves(mesh, plan, enclaves)
        supervisor = Supervisor(mesh, state, lambda line: say(f"  {line}"))
        asyncio.run(supervisor.run(plan, lambda: _announce(mesh, attached=True)))


def _can_keep_jobs(mesh: Mesh, enclaves: Path | None) -> bool:
    """Whether the Redis that jobs are to wait in can be had; says what is missing where it is our own."""
    in_enclave = enclaves is not None and (enclaves / programs.REDIS).is_dir()
    if not redis_files.is_own(mesh) or in_enclave or shutil.which(programs.REDIS_SERVER):
        return True
    warn(
        f"There is no {programs.REDIS_SERVER} on this machine, so the mesh takes no jobs; 'apt-get install "
        "redis-server' installs it (7.0 or later)."
    )
    return False


def down(folder: MeshArgument = FOLDER) -> None:
    """Stop the mesh that 'cloister up' runs for this folder, and wait until it has drained."""
    Mesh.read(folder)
    say("stopped" if running.take_down(folder, DRAIN_S) else "nothing was running")


def status(folder: MeshArgument = FOLDER, as_json: AsJson = False) -> None:
    """Show the health of each service, and the workers as the gateway sees them.

    Ends with 4 when a service is not serving.
    """
    mesh = Mesh.read(folder)
    started = (running.read_state(folder) or {}).get("programs", [])
    further = {each["name"]: each["address"] for each in started if each["service"] == "gateway"}
    keeps_jobs = any(each["service"] == programs.REDIS for each in started)
    https = next((each["https"] for each in started if each["name"] == "gateway"), mesh.gateway_https)
    others = {name: address for name, address in further.items() if name != "gateway"}
    found = asyncio.run(status_of(mesh, others, https, keeps_jobs=keeps_jobs))
    found["processes"] = started
    if as_json:
        print_json(found)
    else:
        print_status(mesh, found)
    if not all(service["serving"] or service["standing_by"] for service in found["services"]):
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _announce(mesh: Mesh, *, attached: bool) -> None:
    option = "" if mesh.folder == FOLDER else f" --mesh {mesh.folder}"
    say("the mesh is up", "bold green")
    facts(
        {
            "gateway": f"{mesh.gateway}  (Open Inference Protocol v2, gRPC, mutual TLS)",
            **_https_and_further_gateways(mesh),
            "verifier": mesh.verifier,
            **({"": f"https://{mesh.verifier_https}  (keys, and evidence of its own)"} if mesh.verifier_https else {}),
            "provisioner": mesh.provisioner,
            **_redis(mesh),
            "trust bundle": mesh.trust,
            "logs": mesh.folder / "logs",
        },
        indent="  ",
    )
    say("try:")
    me = _own_name()
    say(f"  {me} status {mesh.folder}")
    say(f"  {me} evidence show {_first_model(mesh)}{option}")
    say(f"  {me} audit list{option}")
    if any(each["service"] == programs.CONSOLE for each in (running.peek_state(mesh.folder) or {}).get("programs", [])):
        say(f"  {me} console {mesh.folder}  (prints where a browser finds it)")
    say("Ctrl-C drains and stops it" if attached else f"'{me} down {mesh.folder}' drains and stops it")


def _https_and_further_gateways(mesh: Mesh) -> dict[str, str]:
    started = (running.peek_state(mesh.folder) or {}).get("programs", [])
    gateways = [each for each in started if each["service"] == "gateway"]
    https = next((each["https"] for each in gateways if each["https"]), "")
    first = {HTTPS: f"https://{https}  (the same over REST; API keys and tokens count too)"} if https else {}
    return {**first, **{each["name"]: each["address"] for each in gateways if each["address"] != mesh.gateway}}


def _redis(mesh: Mesh) -> dict[str, str]:
    started = (running.peek_state(mesh.folder) or {}).get("programs", [])
    return {each["service"]: f"{each['address']}  (jobs wait here)" for each in started if each["service"] == "redis"}


def _first_model(mesh: Mesh) -> str:
    """A model that the workers are to serve, for an example that works."""
    wanted = tomllib.loads(mesh.settings("worker").read_text()).get("models", ["MODEL"])
    return str(wanted[0]).partition("@")[0]


def _own_name() -> str:
    """How to call this command again from here: by its name, or by its path where that is not on the search path."""
    if shutil.which("cloister"):
        return "cloister"
    path = Path(sys.executable).parent / "cloister"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _as_enclaves(mesh: Mesh, plan: list[list[programs.Program]], folder: Path) -> list[list[programs.Program]]:
    """The plan with enclaves in it; under the lock, since secrets are brought into states that nobody else may use."""
    if len(mesh.provisioners) > 1 and (folder / "provisioner").is_dir():
        raise Stop("each enclave has a state of its own, so no provisioner in one can stand by for another here")
    with extras("enclave"):
        from cloister.cli.enclave_programs import Enclaves
    return Enclaves.read(folder, mesh).started(mesh, plan)


def _detached(mesh: Mesh, size: programs.Size, enclaves: Path | None, *, simulator: bool) -> None:
    """Start this same command in a session of its own, and wait until it is ready or has failed."""
    (mesh.folder / "logs").mkdir(exist_ok=True)
    log = mesh.folder / "logs" / "up.log"
    command = [sys.executable, "-m", "cloister.cli", "up", str(mesh.folder), "--workers", str(size.workers)]
    command += ["--gateways", str(size.gateways), "--https" if size.https else "--no-https"]
    command.append("--console" if size.console else "--no-console")
    command.append("--jobs" if size.jobs else "--no-jobs")
    if size.gateway_processes is not None:
        command += ["--gateway-processes", str(size.gateway_processes)]
    if enclaves is not None:
        command += ["--enclaves", str(enclaves)]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # our own command
            [*command, "--simulator"] if simulator else command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    until = time.monotonic() + START_S * (size.workers + size.gateways + size.console + len(SERVICES))
    while not _is_ready(running.peek_state(mesh.folder), process.pid):
        if process.poll() is not None or time.monotonic() > until:
            said = log.read_text(errors="replace").strip().splitlines()
            raise Stop(said[-1].removeprefix("error: ") if said else f"it ended at once; see {log}")
        time.sleep(0.1)
    if simulator:
        warn(SIMULATED)
    _announce(mesh, attached=False)


def _is_ready(state: dict[str, Any] | None, pid: int) -> bool:
    return state is not None and state["pid"] == pid and state["ready"] is True


def _renew_collateral(platform: Path) -> None:
    """A simulated platform's collateral ages as real collateral does; its own Intel issues it anew."""
    command = [executable(SIMULATOR), "collateral", str(platform)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  # fixed words
    if done.returncode != 0:
        raise Stop(f"the simulator could not issue collateral: {' '.join(done.stderr.split())[-300:]}")
