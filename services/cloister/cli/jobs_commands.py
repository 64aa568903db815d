"""`cloister jobs`: what became of jobs, for who submitted them; how much waits and what died, for operators."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister.api.v1.jobs_pb2 import DeadLetter, JobQueue
from cloister.cli.asking import connected
from cloister.cli.batch.journal import Journal
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, examples
from cloister.cli.output import facts, print_json, say, table
from cloister.cli.reaching import reached
from cloister.client import Client, JobStatus, JobTicket, dead_letters, job_queues
from cloister.errors import InvalidRequest
from cloister.rpc.status import reason_of

app = typer.Typer(help="Jobs that wait at the mesh, and what became of them.", no_args_is_help=True)

Where = Annotated[
    Path, typer.Argument(metavar="TICKET|JOURNAL", help="A ticket's file, or the journal of 'cloister submit'.")
]


@dataclass(frozen=True, slots=True)
class _Held:
    """Jobs that somebody has tickets of.

    Attributes:
        tickets: Of those that have not ended, as far as is known here.
        rows: What each is of.
        batch: What the journal says of the whole batch; empty for a ticket.
    """

    tickets: list[JobTicket]
    rows: list[str]
    batch: dict[str, Any]


@app.command(epilog=examples("cloister jobs show job.ticket", "cloister jobs show answers.parquet.journal --json"))
def show(
    where: Where, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False
) -> None:
    """Show where a job is, or how far a batch has come."""
    held = _held(where)
    statuses = _asked(held, mesh_folder, identity, lambda client: client.jobs.state(held.tickets))
    states = Counter(status.state.value for status in statuses)
    if as_json:
        print_json({**held.batch, "jobs": [_plain(status) for status in statuses]})
    elif held.batch:
        facts({**held.batch, "jobs not ended here": ", ".join(f"{n} {word}" for word, n in states.items()) or "none"})
    else:
        facts({name: value for name, value in _plain(statuses[0]).items() if value is not None})


@app.command("list", epilog=examples("cloister jobs list answers.parquet.journal"))
def list_jobs(
    where: Where, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False
) -> None:
    """List the jobs that have not ended as far as a journal knows, and what the gateway says of each."""
    held = _held(where)
    _tell(held, _asked(held, mesh_folder, identity, lambda client: client.jobs.state(held.tickets)), as_json=as_json)


@app.command(epilog=examples("cloister jobs cancel answers.parquet.journal"))
def cancel(
    where: Where, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False
) -> None:
    """Have jobs not answered that are not answered yet. Rows of a batch that are cancelled count as failed."""
    held = _held(where)
    _tell(held, _asked(held, mesh_folder, identity, lambda client: client.jobs.cancel(held.tickets)), as_json=as_json)


@app.command(epilog=examples("cloister jobs queues", "cloister jobs queues breast-cancer --json"))
def queues(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Only of this model.")] = "",
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show how many jobs wait and run, by model. Roles: operator, auditor."""
    mesh = Mesh.read(mesh_folder)

    async def call() -> Sequence[JobQueue]:
        async with reached(mesh, identity or mesh.identity("operator"), "gateway", mesh.gateway) as gateway:
            return await job_queues(gateway, model)

    found = [_queue(queue) for queue in asyncio.run(call())]
    if as_json:
        print_json(found)
    elif found:
        table(list(found[0]), [list(queue.values()) for queue in found])
    else:
        say("no jobs wait, run or have died")


@app.command(epilog=examples("cloister jobs dead breast-cancer", "cloister jobs dead breast-cancer --json"))
def dead(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    as_json: AsJson = False,
) -> None:
    """List jobs that nobody will answer, with the reasons, oldest first. Roles: operator, auditor."""
    mesh = Mesh.read(mesh_folder)

    async def call() -> list[DeadLetter]:
        async with reached(mesh, identity or mesh.identity("operator"), "gateway", mesh.gateway) as gateway:
            return [letter async for letter in dead_letters(gateway, model)]

    found = [_letter(letter) for letter in asyncio.run(call())]
    if as_json:
        print_json(found)
    elif found:
        table(list(found[0]), [list(letter.values()) for letter in found])
    else:
        say("no dead letters")


def _held(where: Path) -> _Held:
    if where.is_dir():
        with Journal.read(where) as journal:
            kept = journal.tickets()
            size, counts = journal.identity.rows, journal.counts
            spans = [(number * size, min((number + 1) * size, journal.rows) - 1) for number, _ in kept]
            batch = {
                "batch": journal.batch_id,
                "input": journal.input,
                "model": journal.identity.model,
                "rows": journal.rows,
                "answered": counts.answered,
                "failed": counts.failed,
            }
        tickets = [JobTicket.from_bytes(raw) for _, raw in kept]
        return _Held(tickets, [f"{first}-{last}" for first, last in spans], batch)
    try:
        return _Held([JobTicket.from_bytes(where.read_bytes())], [""], {})
    except FileNotFoundError as error:
        raise Stop(f"there is no ticket or journal {where}", ExitCode.USAGE) from error
    except InvalidRequest as error:
        raise Stop(f"{where} is no ticket: {error}") from error


def _asked(
    held: _Held, mesh_folder: Path, identity: Path | None, ask: Callable[[Client], Awaitable[list[JobStatus]]]
) -> list[JobStatus]:
    mesh = Mesh.read(mesh_folder)

    async def call() -> list[JobStatus]:
        async with connected(mesh, identity) as client:
            return await ask(client)

    return asyncio.run(call()) if held.tickets else []


def _tell(held: _Held, statuses: Sequence[JobStatus], *, as_json: bool) -> None:
    if as_json:
        found = zip(held.rows, statuses, strict=True)
        print_json([{**({"rows": rows} if rows else {}), **_plain(status)} for rows, status in found])
        return
    if not statuses:
        say("every job that this journal knows of has ended")
        return
    columns = ("rows", "job", "state", "attempts", "submitted", "ended", "reason")
    cells = [
        (rows, status.job_id.hex(), status.state.value, status.attempts, *_times(status), _reason(status))
        for rows, status in zip(held.rows, statuses, strict=True)
    ]
    table(columns if held.batch else columns[1:], cells if held.batch else [cell[1:] for cell in cells])


def _times(status: JobStatus) -> tuple[str | None, str | None]:
    return _time(status.submitted_at), _time(status.ended_at)


def _reason(status: JobStatus) -> str | None:
    return reason_of(status.error) if status.error is not None else None


def _plain(status: JobStatus) -> dict[str, Any]:
    return {
        "job": status.job_id.hex(),
        "state": status.state.value,
        "attempts": status.attempts,
        "submitted": _time(status.submitted_at),
        "ended": _time(status.ended_at),
        "kept_until": _time(status.kept_until),
        "reason": _reason(status),
        "message": str(status.error) if status.error is not None else None,
    }


def _queue(queue: JobQueue) -> dict[str, Any]:
    return {
        "model": queue.model_name,
        "waiting": queue.waiting,
        "running": queue.running,
        "bytes": queue.bytes,
        "oldest_s": round(queue.oldest_s, 3),
        "dead": queue.dead,
    }


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "job": letter.job_id.hex(),
        "tenant": letter.tenant,
        "class": letter.failure.error,
        "reason": letter.failure.reason,
        "message": letter.failure.message,
        "attempts": letter.attempts,
        "submitted": _time(_moment(letter.submitted_ms)),
        "ended": _time(_moment(letter.ended_ms)),
    }


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
