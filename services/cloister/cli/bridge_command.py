"""`cloister bridge`: Cluster Serving's own clients, answered by a mesh until they have moved over."""

from __future__ import annotations

import asyncio
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cloister.cli.asking import connected
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, IdentityFolder, MeshFolder, TrustFile, examples
from cloister.cli.output import say, warn
from cloister.errors import InvalidRequest

if TYPE_CHECKING:
    from cloister.compat.zoo.bridge.counts import Totals
    from cloister.compat.zoo.bridge.settings import BridgeSettings

NEEDED: Final = ("prometheus_client", "pyarrow", "redis", "structlog")


def add_to(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command(
        epilog=examples(
            "cloister bridge --redis rediss://redis.lab:6379 --redis-ca ca.pem --stream serving_stream=breast-cancer",
            "cloister bridge --redis redis://127.0.0.1:6379 --stream scans=lungs@2 --stream ecg=hearts",
        )
    )(bridge)


def bridge(
    *,
    redis: Annotated[str, typer.Option(metavar="URL", help="Their Redis: rediss://HOST:PORT, or unix:///PATH.")],
    streams: Annotated[
        list[str],
        typer.Option("--stream", metavar="NAME=MODEL[@VERSION]", help="A stream of theirs and who answers it; repeat."),
    ],
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    trust: TrustFile = None,
    redis_ca: Annotated[
        Path | None, typer.Option(help="PEM that the certificate of their Redis must lead back to.")
    ] = None,
    redis_certificate: Annotated[
        Path | None, typer.Option(help="Client certificate in PEM, if their Redis wants one.")
    ] = None,
    redis_key: Annotated[Path | None, typer.Option(help="Its key, mode 0600.")] = None,
    redis_user: Annotated[str, typer.Option(help="User in their Redis.")] = "default",
    redis_password_file: Annotated[Path | None, typer.Option(help="File of its password, mode 0600.")] = None,
    plaintext_redis: Annotated[
        bool, typer.Option("--plaintext-redis", help="Use redis:// over a network: whoever is on it reads everything.")
    ] = False,
    group: Annotated[
        str, typer.Option(help="Consumer group; bridges of one group share the work.")
    ] = "cloister-bridge",
    consumer: Annotated[str, typer.Option(help="Name of this bridge in its group.")] = "bridge",
    since: Annotated[
        str,
        typer.Option(
            metavar="ID",
            help="Entry to begin behind, where the group is new. (default: where Cluster Serving stopped reading)",
        ),
    ] = "",
    result_ttl_s: Annotated[int, typer.Option("--result-ttl", min=1, help="Seconds that a result is kept.")] = 3600,
    life_s: Annotated[
        float, typer.Option("--life", min=1, help="Seconds that a request is tried, before its result is NaN.")
    ] = 86_400.0,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="End once there is nothing left to answer.")
    ] = False,
    metrics_listen: Annotated[
        str,
        typer.Option("--metrics", metavar="HOST:PORT", help="Where Prometheus finds its counts. (default: nowhere)"),
    ] = "",
) -> None:
    """Answer clients of Cluster Serving that have not moved over, from a Redis that they know.

    Their requests lie in that Redis in clear, so run it and this bridge on the data owner's own machines: the seal
    begins here. Each request is asked of enclaves that are verified here, as a job where the mesh takes jobs, and has
    one result, where and as their clients look for it; NaN where it failed, with the reason in the field 'error'. Ends
    with Ctrl-C or SIGTERM and prints how many came and what became of them; what is left has its result after the
    next start. With --until-empty it ends with 1 when a result was NaN.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise Stop(f"the bridge needs {missing[0]}; install 'cloister[zoo]'")
    from cloister.compat.zoo.bridge.settings import BridgeSettings, TheirRedis, parse_streams

    try:
        settings = BridgeSettings(
            redis=TheirRedis(
                url=redis,
                trust_roots=redis_ca,
                certificate=redis_certificate,
                private_key=redis_key,
                user=redis_user,
                password_file=redis_password_file,
                plaintext=plaintext_redis,
            ),
            streams=parse_streams(streams),
            group=group,
            consumer=consumer,
            since=since,
            result_ttl_s=result_ttl_s,
            life_s=life_s,
            until_empty=until_empty,
        )
    except InvalidRequest as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    totals = asyncio.run(_run(settings, Mesh.read(mesh_folder), identity, trust, metrics_listen))
    for name, each in totals.items():
        _tell(name, each)
    if until_empty and any(each.failed for each in totals.values()):
        raise typer.Exit(ExitCode.FAILED)


async def _run(
    settings: BridgeSettings, mesh: Mesh, identity: Path | None, trust: Path | None, metrics_listen: str
) -> dict[str, Totals]:
    from cloister.compat.zoo.bridge.app import carry
    from cloister.compat.zoo.bridge.counts import Counts
    from cloister.kit import log
    from cloister.kit.exporter import exporter
    from cloister.kit.lifecycle import Lifecycle
    from cloister.kit.metrics import Metrics

    log.configure("bridge", json=not sys.stderr.isatty(), stream=sys.stderr)
    metrics = Metrics()
    counts = Counts(metrics)
    async with (
        Lifecycle.running(signals=(signal.SIGTERM, signal.SIGINT)) as lifecycle,
        exporter(metrics_listen, metrics.registry),
        connected(mesh, identity, trust) as client,
    ):
        await carry(settings, client, counts, lifecycle.stopping, mesh_redis=mesh.redis)
    return counts.streams


def _tell(stream: str, totals: Totals) -> None:
    say(
        f"{stream}: {totals.taken} in; {totals.answered} answered, {totals.failed} NaN, {totals.elsewhere} settled "
        f"elsewhere, {totals.left} left"
    )
    if totals.left:
        warn(f"{stream}: {totals.left} have no result yet; they have one after the next start")
