"""The `cloister-stream` command: what a cluster needs to speak TLS, and jobs."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cloister.errors import CloisterError, NotReady
from cloister_stream import submitting
from cloister_stream.cluster_settings import ClusterSettings
from cloister_stream.flink_home import FlinkHome
from cloister_stream.settings import Settings

app = typer.Typer(
    help="A Flink job that asks a Cloister mesh, and the settings of a cluster that runs it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Conf = Annotated[Path, typer.Option(metavar="DIR", help="Folder of Flink's config.yaml: FLINK_CONF_DIR.")]


@app.command()
def configure(
    conf: Conf,
    *,
    stores: Annotated[Path, typer.Option(metavar="DIR", help="Key stores, as 'cloister identity flink' makes them.")],
    work: Annotated[Path, typer.Option(metavar="DIR", help="For what Flink's processes write.")],
    jobmanager: Annotated[str, typer.Option(help="Name or address of the JobManager.")] = "localhost",
    host: Annotated[str, typer.Option(help="Name or address of this machine.")] = "localhost",
    rpc_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the JobManager.")] = 6123,
    rest_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the JobManager.")] = 8081,
    slots: Annotated[int, typer.Option(min=1, help="Parts of jobs that a TaskManager of this machine takes.")] = 2,
) -> None:
    """Write Flink's config.yaml: TLS 1.3 with client certificates between its processes and at its REST interface."""
    settings = ClusterSettings(
        stores=stores.absolute(),
        work=work.absolute(),
        python=Path(sys.executable),
        java_options=_home().java_options(),
        jobmanager=jobmanager,
        host=host,
        rpc_port=rpc_port,
        rest_port=rest_port,
        slots=slots,
    )
    settings.write(conf.absolute())
    typer.echo(f"{conf}/config.yaml; with FLINK_CONF_DIR={conf.absolute()}, in {_home().path / 'bin'}:")
    typer.echo("jobmanager.sh start      taskmanager.sh start")


@app.command()
def submit(
    settings: Annotated[Path, typer.Argument(metavar="SETTINGS", help="The job's settings, TOML.")],
    *,
    conf: Conf,
) -> None:
    """Hand the job to the cluster, or have it go on from its last checkpoint; prints its id.

    It is refused while it runs, and where its output folder holds what a run has written that came to its end.
    """
    typer.echo(submitting.submit(settings, Settings.read(settings), conf, _home().path))


def _home() -> FlinkHome:
    found = find_spec("pyflink")
    if found is None or not found.submodule_search_locations:
        raise NotReady(
            "Flink is not installed in this environment: 'pip install cloister-stream' brings it",
            reason="flink.missing",
        )
    return FlinkHome(Path(found.submodule_search_locations[0]))


def main() -> None:
    """Run the command; a mistake ends it with 1 and one line."""
    try:
        app()
    except (CloisterError, TimeoutError) as error:
        reason = f" ({error.reason})" if isinstance(error, CloisterError) else ""
        typer.echo(f"error: {error}{reason}", err=True)
        sys.exit(1)
