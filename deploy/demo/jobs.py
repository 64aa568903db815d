"""The demonstration's jobs: work is left with the mesh, Redis is killed under it, and every answer is there."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
from stage import Failed, console, step, wait_for

from cloister.client import Answer, Client, JobTicket


def leave_jobs(
    mesh: Path, model: str, measurements: np.ndarray[Any, Any], asked: list[Answer], *, in_enclaves: bool
) -> None:
    """Submit the same records as jobs, kill Redis, and compare what comes back with the answers of before.

    As an enclave it is not killed: what Gramine encrypts for it may be torn by that.
    """
    if shutil.which("redis-server") is None:
        step("data owner", "left no jobs: they need redis-server, which is not installed here")
        return
    tickets = asyncio.run(_submit(mesh, model, measurements))
    step("data owner", f"left {len(tickets)} jobs with the mesh, each sealed to a key of the model, and went away")
    if not in_enclaves:
        _kill_redis(mesh)
    answers = asyncio.run(_collect(mesh, tickets))
    same = sum(_equal(answers[ticket.job_id], one) for ticket, one in zip(tickets, asked, strict=True))
    if same != len(tickets):
        raise Failed(f"only {same} of {len(tickets)} jobs have the answers that were given before")
    step("data owner", f"came back as another process: {same} of {len(tickets)} answers, bit for bit as before")
    if not in_enclaves:
        _show_what_redis_holds(mesh, tickets[0])


def _kill_redis(mesh: Path) -> None:
    killed = _redis(mesh)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: _redis(mesh) not in (0, killed), "Redis to be started again")
    step("operator", "lost Redis (SIGKILL); it was started again, with every job that had been accepted")


async def _submit(mesh: Path, model: str, measurements: np.ndarray[Any, Any]) -> list[JobTicket]:
    async with Client.of_mesh(mesh) as client:
        prepared = await client.jobs.prepare(model, [{"measurements": row[None, :]} for row in measurements])
        for sent in await client.jobs.send(prepared):
            if sent.error is not None:
                raise Failed(f"a job was not accepted: {sent.error}")
        return [job.ticket for job in prepared]


async def _collect(mesh: Path, tickets: list[JobTicket]) -> dict[bytes, Answer]:
    """What became of each; a job that is not there any more would be an error here."""
    answers: dict[bytes, Answer] = {}
    async with Client.of_mesh(mesh) as client:
        async for ticket, outcome in client.jobs.watch(tickets):
            if not isinstance(outcome, Answer):
                raise Failed(f"job {ticket.job_id.hex()} has no answer: {outcome}")
            answers[ticket.job_id] = outcome
    return answers


def _show_what_redis_holds(mesh: Path, ticket: JobTicket) -> None:
    """A job's record, as whoever holds Redis's file sees it."""
    kept = b"".join(path.read_bytes() for path in sorted((mesh / "redis" / "appendonlydir").glob("*.aof")))
    at = kept.find(ticket.job_id)
    if at < 0:
        raise Failed("the append-only file of Redis does not name a job that it keeps")
    step("operator", f"sees of the first job in Redis's {len(kept) // 1024} KiB its name, sizes, times, and this:")
    console.print(f"           {kept[at + 512 : at + 544].hex()} ...")


def _redis(mesh: Path) -> int:
    """Pid of the running Redis; 0 while there is none."""
    programs = json.loads((mesh / "run" / "up.json").read_text())["programs"]
    return next((each["pid"] or 0 for each in programs if each["service"] == "redis"), 0)


def _equal(one: Answer, other: Answer) -> bool:
    return all(np.array_equal(one.outputs[name], other.outputs[name]) for name in other.outputs)
