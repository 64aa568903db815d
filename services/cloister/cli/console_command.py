"""`cloister console`: the web console of a mesh, served from here, or where it is served already."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, IdentityFolder, MeshArgument, examples
from cloister.cli.output import say
from cloister.cli.ports import is_free
from cloister.client import tls_files
from cloister.errors import InvalidRequest

if TYPE_CHECKING:
    from cloister.console.settings import Settings

NEEDED: Final = ("hypercorn", "starlette", "structlog")
LISTEN: Final = "127.0.0.1:8450"


def add_to(app: typer.Typer) -> None:
    """Add this command to the root."""
    app.command(epilog=examples("cloister console .cloister", "cloister console --listen 127.0.0.1:9000"))(console)


def can_serve() -> bool:
    """Whether what the console is made of is installed."""
    return all(find_spec(name) is not None for name in NEEDED)


def console(
    folder: MeshArgument = FOLDER,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where browsers find it. (default: as the mesh folder says)")
    ] = "",
    https: Annotated[
        Path | None,
        typer.Option(help="Folder of an identity to serve HTTPS by; who looks shows an operator's or auditor's."),
    ] = None,
    identity: IdentityFolder = None,
) -> None:
    """Show the mesh in a browser: workers, evidence, keys released and refused, receipts. It changes nothing.

    Prints a link that opens it once, for one browser of this machine; run it again for another link. Where 'cloister
    up' runs it already, this only prints the link. Acts as the mesh folder's auditor. Elsewhere than on this machine it
    is served by --https alone.
    """
    mesh = Mesh.read(folder)
    address = listen or mesh.console or LISTEN
    if not listen and https is None and not is_free(address) and mesh.console_link.exists():
        say(mesh.console_link.read_text().strip())
        return
    if not can_serve():
        raise Stop("the console is not installed here; install 'cloister[console]'")
    asyncio.run(_serve(_settings(mesh, address, https, identity or mesh.identity("auditor"))))


def _settings(mesh: Mesh, listen: str, https: Path | None, identity: Path) -> Settings:
    from cloister.console.settings import Settings

    link = mesh.console_link if listen == mesh.console and https is None else None
    if link is not None:
        link.parent.mkdir(exist_ok=True)
    try:
        return Settings(
            cluster=mesh.cluster,
            gateway=mesh.gateway,
            verifier=mesh.verifier,
            provisioner=mesh.provisioner,
            trust=mesh.trust,
            identity=tls_files(identity),
            listen=listen,
            https=tls_files(https) if https is not None else None,
            link=link,
        )
    except InvalidRequest as error:
        raise Stop(f"--{error}", ExitCode.USAGE) from error


async def _serve(settings: Settings) -> None:
    from cloister.console.app import opened
    from cloister.kit import log
    from cloister.kit.lifecycle import Lifecycle

    log.configure("console", json=not sys.stderr.isatty(), level="info" if settings.link else "warning")
    async with (
        Lifecycle.running(signals=(signal.SIGTERM, signal.SIGINT)) as lifecycle,
        opened(settings, lifecycle, _told(settings)),
    ):
        await lifecycle.stopping.wait()


def _told(settings: Settings) -> Callable[[str], None]:
    """Print each link for a person; into the log of a supervisor goes none, for it would open the console."""
    return lambda url: say(url) if settings.link is None or sys.stdout.isatty() else None
