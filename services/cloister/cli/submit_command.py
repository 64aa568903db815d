"""`cloister submit`: a file of rows, asked as jobs, and a file of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister.cli.asking import asked_for, connected
from cloister.cli.batch.jobs_face import LIFE_S
from cloister.cli.batch.journal import sweep
from cloister.cli.batch.reading import digest_of, stamp_of
from cloister.cli.batch.running import Batch, Report, run, start_over
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.identities import described
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import (
    FOLDER,
    AsJson,
    IdentityFolder,
    MeshFolder,
    TrustFile,
    check_place,
    examples,
    model_digest,
)
from cloister.cli.output import facts, print_json, progress_bytes, progress_rows, warn
from cloister.client import JobTicket
from cloister.errors import InvalidRequest, NotFound


class Priority(StrEnum):
    """Which of a model's jobs are taken first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


def add_to(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command(
        epilog=examples(
            "cloister submit breast-cancer --input records.parquet --output answers.parquet",
            "cloister submit breast-cancer --input records.csv --column measurements=* --output answers.jsonl",
        )
    )(submit)


def submit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    *,
    inputs: Annotated[Path, typer.Option("--input", help="Rows: .parquet, .npy, .npz, .jsonl or .csv.")],
    output: Annotated[Path, typer.Option(help="Answers: .parquet, .npz, .jsonl, or .npy without row numbers.")],
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    trust: TrustFile = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT=COLUMN",
            help="Column of an input, several with commas, * for all others; by default the one of its name.",
        ),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of each job. (default: as the model takes them, at most 256)")
    ] = None,
    rounding: Annotated[
        bool, typer.Option("--round", help="Let numbers be rounded to the model's datatype, doubles to FP32.")
    ] = False,
    version: Annotated[
        str, typer.Option(help="Version or label of the model. (default: the mesh's default version)")
    ] = "",
    digest: Annotated[
        str, typer.Option(help="Only the model of this digest may answer, 64 hex digits, from its owner.")
    ] = "",
    priority: Annotated[Priority, typer.Option(help="Which jobs of the model are taken first.")] = Priority.NORMAL,
    life: Annotated[int, typer.Option(min=1, help="Seconds after which a job that waits is given up.")] = LIFE_S,
    in_flight: Annotated[int, typer.Option(min=1, help="Jobs under way at once, about.")] = 128,
    receipts: Annotated[Path | None, typer.Option(help="Keep the proof of each answer in this folder.")] = None,
    journal: Annotated[Path | None, typer.Option(help="Folder of the journal. (default: OUTPUT.journal)")] = None,
    again: Annotated[bool, typer.Option("--again", help="Ask rows once more that failed before.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what was begun, and start over.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for a gateway that is away or full.")
    ] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask a model for each row of a file, by sealed jobs, and write the answers to another.

    Run again after it was interrupted, it goes on and asks nothing twice. Rows that cannot be asked or answered are in
    OUTPUT.errors.jsonl, each with its reason; then the command ends with 1. The output is there once it is whole.
    """
    mesh = Mesh.read(mesh_folder)
    folder = journal or output.with_name(f"{output.name}.journal")
    check_place(output)
    check_place(folder / "journal" if folder.is_dir() else folder)
    if not inputs.is_file():
        raise Stop(f"there is no file {inputs}", ExitCode.USAGE)
    sweep(folder)
    if output.exists() and not folder.exists() and not fresh:
        raise Stop(
            f"{output} exists, whole, and there is nothing to go on with; name another file, or say --fresh to ask for "
            "all of it anew",
            ExitCode.USAGE,
        )
    batch = Batch(
        source=inputs,
        output=output,
        folder=folder,
        digest="",
        stamp=stamp_of(inputs),
        model=model,
        version=version,
        model_digest=model_digest(digest),
        columns=tuple(column or ()),
        rounding=rounding,
        rows=rows,
        cluster=mesh.cluster,
        client=described(identity or mesh.identity("client")).spiffe_id,
        again=again,
        options={"priority": priority.value, "life_s": life},
        in_flight=in_flight,
        timeout_s=timeout,
        receipts=receipts,
    )

    async def ask() -> Report:
        async with connected(mesh, identity, trust) as client, asked_for(model, version):
            if fresh:
                await start_over(
                    batch, lambda raw: client.jobs.cancel([JobTicket.from_bytes(ticket) for ticket in raw])
                )
            contract = await client.contract(model, version, timeout)
            with _shown(inputs.name) as begun:
                return await run(whole, client.jobs, contract, JobTicket.from_bytes, begun)

    with progress_bytes(f"reading {inputs.name}", inputs.stat().st_size) as progress:
        found = digest_of(inputs, lambda size: progress.advance(progress.task_ids[0], size))
    whole = replace(batch, digest=found)
    report = asyncio.run(ask())
    _tell(report, whole, as_json=as_json)
    if report.counts.failed:
        raise typer.Exit(ExitCode.REFUSED if report.distrusted else ExitCode.FAILED)


@contextmanager
def _shown(name: str) -> Iterator[Callable[[int, int], Callable[[int], None]]]:
    """A bar of rows; and should it break off, what to do."""
    ended = [0, 0]
    with progress_rows(name) as bar:

        def begun(rows: int, before: int) -> Callable[[int], None]:
            ended[:] = [before, rows]
            return lambda more: bar(_counted(ended, more), rows)

        try:
            yield begun
        except BaseException as error:
            would_end_so_again = not ended[0] and isinstance(error, InvalidRequest | NotFound)
            if ended[0] < ended[1] and not would_end_so_again:
                warn(f"{ended[0]} of {ended[1]} rows have ended; run the same command again to go on with the others")
            raise


def _counted(ended: list[int], more: int) -> int:
    ended[0] += more
    return ended[0]


def _tell(report: Report, batch: Batch, *, as_json: bool) -> None:
    counts = report.counts
    if as_json:
        print_json(_plain(report, batch))
        return
    by = ", ".join(f"{batch.model}@{version}: {rows}" for version, rows in sorted(counts.versions.items()))
    told = {
        "rows in": report.rows,
        "rows answered": counts.answered,
        "rows failed": counts.failed,
        "answered by": by or "nobody",
        "answers": batch.output,
    }
    if report.errors is not None:
        told |= {"errors": report.errors, "journal": f"{batch.folder} (ask failed rows once more with --again)"}
    facts(told)
    if len(counts.versions) > 1:
        warn("several versions have answered; --version names the only one that may")


def _plain(report: Report, batch: Batch) -> dict[str, Any]:
    counts = report.counts
    return {
        "model_name": batch.model,
        "rows": report.rows,
        "answered": counts.answered,
        "failed": counts.failed,
        "versions": counts.versions,
        "output": str(batch.output),
        "errors": str(report.errors) if report.errors is not None else None,
        "journal": str(batch.folder) if report.errors is not None else None,
    }
