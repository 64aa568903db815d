"""A batch from its file to its output, over a client that is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cloister.cli.batch.asking import ask
from cloister.cli.batch.columns import read_options
from cloister.cli.batch.jobs_face import Jobs, Order, Ticket
from cloister.cli.batch.journal import Counts, Journal, drop, locked
from cloister.cli.batch.plan import Identity, rows_at_once, rows_per_job
from cloister.cli.batch.reading import Reading, Stamp, spans, stamp_of
from cloister.cli.batch.sources import open_source
from cloister.cli.batch.writing import check_output, write_failures, write_output
from cloister.cli.failures import ExitCode, Stop
from cloister.client import JobOptions
from cloister.contract import ModelContract
from cloister.errors import CloisterError, EvidenceRejected, InternalError, SealBroken


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is asked for.

    Attributes:
        source: File of rows.
        output: File of answers.
        folder: Of the journal.
        digest: SHA-256 of the source, in hex.
        stamp: Of the source before its digest was made, see `reading.stamp_of`.
        model: Name.
        version: The only one that may answer, or a label, or empty.
        model_digest: The only model that may answer; None for any.
        columns: As they were given.
        rounding: Whether numbers may be rounded.
        rows: Of each job; None for as many as make a job of reasonable size.
        cluster: Of the mesh.
        client: Who asks: its SPIFFE id.
        again: Whether rows that failed are asked once more.
        options: Of `Jobs.prepare`, beside version and digest.
        in_flight: Jobs under way at once, about.
        timeout_s: How long the gateway may be away, or refuse.
        receipts: Folder for receipts; None to keep none.
    """

    source: Path
    output: Path
    folder: Path
    digest: str
    stamp: Stamp
    model: str
    version: str = ""
    model_digest: bytes | None = None
    columns: tuple[str, ...] = ()
    rounding: bool = False
    rows: int | None = None
    cluster: str
    client: str
    again: bool = False
    options: JobOptions = field(default_factory=JobOptions)
    in_flight: int = 128
    timeout_s: float = 120.0
    receipts: Path | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """How it ended.

    Attributes:
        rows: That went in.
        counts: What came out.
        errors: File of the rows that failed; None where none has.
        distrusted: Whether an answer was not believed: changed on its way, or by an enclave that is not.
    """

    rows: int
    counts: Counts
    errors: Path | None
    distrusted: bool = False


_DISTRUST: Final = frozenset({SealBroken.__name__, EvidenceRejected.__name__})
Begun = Callable[[int, int], Callable[[int], None]]
"""Told how many rows there are and how many have ended; gives what is told of each further end."""


async def run(
    batch: Batch, jobs: Jobs, contract: ModelContract, ticket_of: Callable[[bytes], Ticket], begun: Begun
) -> Report:
    """Ask for every row that has not ended, and write the output.

    Raises:
        Stop: File, model, journal or output do not fit; or the output cannot be written as it was named.
        CloisterError, TimeoutError: As `asking.ask`; what was learnt is in the journal.
    """
    check_output(batch.output, contract)
    reading = Reading(contract=contract, columns=read_options(batch.columns), rounding=batch.rounding)
    source = await asyncio.to_thread(open_source, batch.source, reading)
    exactly = rows_at_once(contract)
    size = _rows(batch, contract)
    if not batch.folder.exists():
        await asyncio.to_thread(Journal.begin, batch.folder, _identity(batch, size), source.rows, batch.source)
    with locked(batch.folder), Journal.read(batch.folder) as journal:
        _check_same(journal, _identity(batch, size))
        if batch.again:
            await asyncio.to_thread(journal.turn, journal.with_failures())
        counts = journal.counts
        order = _order(batch, contract, ticket_of)
        told = begun(source.rows, counts.answered + counts.failed)
        await ask(spans(source, size, exactly), jobs, journal, order, told)
        return await asyncio.to_thread(_finish, batch, journal, contract)


async def start_over(batch: Batch, cancel: Callable[[list[bytes]], Any]) -> None:
    """Forget a journal, and have what it has under way not answered, if the gateway can be reached.

    Args:
        batch: Whose journal it is.
        cancel: Called with tickets, as they were kept.
    """
    if not batch.folder.exists():
        return
    with locked(batch.folder):
        with suppress(Stop, CloisterError, TimeoutError), Journal.read(batch.folder) as journal:
            tickets = [ticket for _, ticket in journal.tickets()]
            if tickets:
                await cancel(tickets)
        drop(batch.folder)


def _rows(batch: Batch, contract: ModelContract) -> int:
    """Rows of each job: those that the batch began with, unless somebody says otherwise."""
    if batch.rows is None and batch.folder.exists():
        with Journal.read(batch.folder) as journal:
            return rows_per_job(contract, journal.identity.rows)
    return rows_per_job(contract, batch.rows)


def _identity(batch: Batch, rows: int) -> Identity:
    return Identity(
        input=batch.digest,
        model=batch.model,
        version=batch.version,
        digest=batch.model_digest.hex() if batch.model_digest is not None else "",
        columns=";".join(sorted(batch.columns)),
        rounding=batch.rounding,
        rows=rows,
        cluster=batch.cluster,
        client=batch.client,
        proved=batch.receipts is not None,
    )


def _check_same(journal: Journal, identity: Identity) -> None:
    differences = journal.identity.differences(identity)
    if differences:
        raise Stop(
            f"{journal.folder} is of another batch (of {journal.input}): it differs in {' and '.join(differences)}; "
            "run the command as it was begun to go on with that, name another --output, or start over with --fresh",
            ExitCode.USAGE,
        )


def _order(batch: Batch, contract: ModelContract, ticket_of: Callable[[bytes], Ticket]) -> Order:
    if batch.receipts is not None:
        batch.receipts.mkdir(mode=0o700, parents=True, exist_ok=True)
    options: JobOptions = {**batch.options, "version": batch.version, "digest": batch.model_digest}
    return Order(
        model=batch.model,
        contract=contract,
        ticket_of=ticket_of,
        options=options,
        in_flight=batch.in_flight,
        timeout_s=batch.timeout_s,
        receipts=batch.receipts,
    )


def _finish(batch: Batch, journal: Journal, contract: ModelContract) -> Report:
    """Count, write, and remove a journal that nobody needs any more."""
    if stamp_of(batch.source) != batch.stamp:
        raise Stop(f"{batch.source} has been changed while it was read; start over with --fresh")
    counts = journal.counts
    if counts.answered + counts.failed != journal.rows:
        raise InternalError(
            f"of {journal.rows} rows {counts.answered} were answered and {counts.failed} failed, which is not all; "
            f"nothing was written, and {journal.folder} has what is known"
        )
    errors = write_failures(journal, batch.output)
    distrusted = any(failed.kind in _DISTRUST for failed in journal.failures())
    write_output(journal, batch.output, contract)
    if not counts.failed:
        drop(journal.folder)
    return Report(journal.rows, counts, errors, distrusted)
