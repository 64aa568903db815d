"""A batch of requests on its way: asked, asked again while that may help, and each settled once.

Whatever ends this process in between, nothing is lost and nothing answered twice. A ticket lies in Redis before its
job is submitted; the job's key in the mesh is made of the entry's id, so the mesh does it once; and a result is stored
in the step that acknowledges its entry.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from cloister.client import Answer, JobTicket, PreparedJob
from cloister.compat.zoo.bridge.counts import Counts
from cloister.compat.zoo.bridge.entries import Entry
from cloister.compat.zoo.bridge.mesh import Asked, JobsOff, MeshModel, Outcome, is_final
from cloister.compat.zoo.bridge.payloads import MALFORMED, read_payload
from cloister.compat.zoo.bridge.results import FAILED, write_error, write_result
from cloister.compat.zoo.bridge.stream import Stream
from cloister.compat.zoo.fitting import fitted
from cloister.contract import ModelContract
from cloister.errors import CloisterError, InternalError, InvalidRequest, NotFound
from cloister.kit.log import get_logger
from cloister.oip.contents import Array
from cloister.rpc.status import reason_of

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
_UNKNOWN: Final = "job.unknown"
_OUTDATED: Final = ("answer.lost", "answer.expired", "job.expired")
"""The job stands, and what it came to is gone, or nobody came to it in its time: it is asked as another one."""

_log = get_logger()


class Batch:
    """Requests that were taken together.

    Args:
        stream: Where they lie.
        model: Answers them.
        counts: Hears of each end.
        entries: The requests.
        life_s: How long they are tried.
    """

    def __init__(
        self, stream: Stream, model: MeshModel, counts: Counts, entries: Sequence[Entry], *, life_s: float
    ) -> None:
        self._stream = stream
        self._model = model
        self._counts = counts
        self._waiting = {entry.entry_id: entry for entry in entries}
        self._until_s = time.monotonic() + life_s
        self._other_keys: dict[str, str] = {}
        self._goes_on = False
        self._last: CloisterError | TimeoutError = TimeoutError("it was not answered in time")

    @property
    def waiting(self) -> dict[str, Entry]:
        """Those that are not settled."""
        return self._waiting

    @property
    def _left_s(self) -> float:
        return max(self._until_s - time.monotonic(), 0.05)

    async def run(self) -> None:
        """Settle all of them, however long it takes."""
        ceiling_s = FIRST_PAUSE_S
        while self._waiting:
            before, self._goes_on = len(self._waiting), False
            try:
                if time.monotonic() < self._until_s:
                    await self._attempt()
                else:
                    await self._give_up()
            except JobsOff:
                _log.warning("bridge.direct", stream=self._stream.name, why="the mesh takes no jobs now")
                continue
            except (CloisterError, TimeoutError) as error:
                self._heard(error)
            if self._waiting:
                progress = self._goes_on or len(self._waiting) < before
                ceiling_s = FIRST_PAUSE_S if progress else min(ceiling_s * 2, LONGEST_PAUSE_S)
                await asyncio.sleep(random.uniform(ceiling_s / 2, ceiling_s))  # noqa: S311  # not a secret

    async def _attempt(self) -> None:
        """Ask for those that have not been asked for, and settle what ends."""
        jobs = self._model.takes_jobs
        tickets = await self._tickets() if jobs else {}
        asked = await self._asked([entry for name, entry in self._waiting.items() if name not in tickets])
        if jobs:
            tickets |= await self._submit(asked)
            await self._watch(tickets)
        elif asked:
            await self._model.ask(asked, self._left_s, self._ended)

    async def _tickets(self) -> dict[str, JobTicket]:
        """Of those that were submitted, in this life or an earlier one."""
        kept = await self._stream.tickets(list(self._waiting))
        found: dict[str, JobTicket] = {}
        for name, raw in kept.items():
            try:
                found[name] = JobTicket.from_bytes(raw)
            except InvalidRequest:  # somebody wrote over it
                await self._ask_as_another(name)
        return found

    async def _asked(self, entries: Sequence[Entry]) -> dict[str, Asked]:
        """What their payloads ask; those that cannot be read are settled."""
        contract = await self._model.contract(self._left_s) if entries else None
        found: dict[str, Asked] = {}
        for entry in entries:
            assert contract is not None
            held = entry if entry.payload is not None or not entry.is_there else await self._stream.read(entry.entry_id)
            try:
                arrays = await asyncio.to_thread(_arrays, held, contract)
            except CloisterError as error:
                await self._settle(entry.entry_id, error)
            else:
                key = self._other_keys.get(entry.entry_id) or self._stream.job_key(entry.entry_id)
                found[entry.entry_id] = Asked(key, arrays)
        return found

    async def _submit(self, asked: dict[str, Asked]) -> dict[str, JobTicket]:
        """Submit jobs; the tickets of those that were accepted."""
        if not asked:
            return {}
        prepared: dict[str, PreparedJob] = {}
        made = await self._model.prepare(list(asked.values()), self._left_s)
        for name, job in zip(asked, made, strict=True):
            if isinstance(job, InvalidRequest):
                await self._settle(name, job)
            else:
                prepared[name] = job
        await self._stream.keep_tickets(
            {name: job.ticket.to_bytes(with_request=False) for name, job in prepared.items()}
        )
        accepted: dict[str, JobTicket] = {}
        sent = await self._model.send(list(prepared.values()), self._left_s)
        for (name, job), said in zip(prepared.items(), sent, strict=True):
            if said == job.ticket.job_id:
                accepted[name] = job.ticket
                self._waiting[name] = self._waiting[name].without_payload()
            elif isinstance(said, bytes):  # an earlier life's, whose ticket Redis has lost
                await self._ask_as_another(name)
            else:
                await self._refused(name, said)
        return accepted

    async def _watch(self, tickets: dict[str, JobTicket]) -> None:
        """Settle what ends, until all have or one has to be asked again."""
        if not tickets:
            return
        names = {ticket.job_id: name for name, ticket in tickets.items()}
        settled: list[JobTicket] = []
        try:
            async with aclosing(self._model.watch(list(tickets.values()), self._left_s)) as ends:
                async for ticket, outcome in ends:
                    name = names[ticket.job_id]
                    reason = "" if isinstance(outcome, Answer) else reason_of(outcome)
                    if not isinstance(outcome, Answer) and reason == _UNKNOWN:
                        await self._submit_again([tickets[each] for each in tickets if each in self._waiting], names)
                        self._heard(outcome)
                        return
                    if reason in _OUTDATED:
                        await self._ask_as_another(name)
                        return
                    await self._settle(name, outcome)
                    settled.append(ticket)
        finally:
            if settled:
                await self._model.forget(settled)

    async def _submit_again(self, tickets: list[JobTicket], names: dict[bytes, str]) -> None:
        """Forget the tickets of all jobs that the mesh does not have: who made them may have died before it sent them.

        Where one is not there, others of its batch are likely not to be, and each on its own would cost a watch.
        """
        unknown = await self._model.unknown(tickets, self._left_s)
        await self._stream.drop_tickets(names[ticket.job_id] for ticket in unknown)
        self._goes_on = True

    async def _ended(self, name: str, outcome: Outcome) -> None:
        """Settle what was asked at once, unless asking again may help."""
        if isinstance(outcome, Answer) or is_final(outcome):
            await self._settle(name, outcome)
        else:
            self._heard(outcome)

    async def _refused(self, name: str, error: CloisterError | TimeoutError) -> None:
        if isinstance(error, CloisterError) and not error.retryable and not self._model.shortened(error):
            await self._settle(name, error)
        else:
            await self._stream.drop_tickets([name])
            self._heard(error)

    async def _ask_as_another(self, name: str) -> None:
        """Of the job under this key nobody will open an answer: this one gets another key."""
        await self._stream.drop_tickets([name])
        self._other_keys[name] = f"{self._stream.job_key(name)}:{secrets.token_hex(4)}"

    async def _give_up(self) -> None:
        for name in list(self._waiting):
            await self._settle(name, self._last)

    async def _settle(self, name: str, outcome: Outcome) -> None:
        """Store a result or NaN, and acknowledge."""
        entry = self._waiting[name]
        value, error = FAILED, None if isinstance(outcome, Answer) else outcome
        if isinstance(outcome, Answer):
            contract = await self._model.contract()
            try:
                value = await asyncio.to_thread(write_result, contract, outcome.outputs)
            except InvalidRequest as unsupported:
                error = unsupported
        stored = await self._stream.settle(entry, value, write_error(error) if error is not None else "")
        del self._waiting[name]
        self._tell(entry, error, stored=stored)

    def _tell(self, entry: Entry, error: Exception | None, *, stored: bool) -> None:
        stream = self._stream.name
        if not stored and entry.is_there:
            self._counts.elsewhere(stream)
        elif error is None:
            self._counts.answered(stream)
        else:
            self._counts.failed(stream, reason_of(error))
            _log.warning("record.failed", stream=stream, entry=entry.entry_id, reason=reason_of(error), error=error)

    def _heard(self, error: CloisterError | TimeoutError) -> None:
        self._last = error
        self._counts.again(self._stream.name, reason_of(error))
        _log.warning(
            "bridge.waiting",
            stream=self._stream.name,
            requests=len(self._waiting),
            reason=reason_of(error),
            error=error,
        )


def _arrays(entry: Entry, contract: ModelContract) -> dict[str, Array]:
    """What a request asks; raises CloisterError for one that cannot be read, whatever it holds."""
    if not entry.is_there:
        raise NotFound("the request was deleted from its stream before it was answered", reason="record.trimmed")
    if entry.uri is None:
        raise InvalidRequest("the record names no uri, so nobody can ask for its result", reason="record.unnamed")
    if entry.serde != b"arrow":
        raise InvalidRequest("the record is not in Arrow's form", reason=MALFORMED)
    try:
        return fitted(contract, read_payload(entry.payload, contract)).arrays
    except CloisterError:
        raise
    except Exception as error:  # one record, whatever it holds, must not end the others
        _log.error("record.unread", entry=entry.entry_id, exc_info=error)
        raise InternalError("the record could not be read") from error
