"""A client under fire: `python -m chaos.client FOLDER`. Killed at any moment, it goes on where it was.

What it submits it keeps first, sealed as it will be sent, and sends the same bytes until it is told that they are
accepted. What it was told it keeps before it counts. It ends with 0 when every job of its has an end.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from chaos import journal
from chaos.journal import Journal
from chaos.work import Wanted, wanted
from cloister import Client
from cloister.client import Answer, PreparedJob
from cloister.errors import CloisterError, NotFound, Overloaded, Unavailable
from fakes.running_mesh import MODEL

PATIENCE_S = 10.0
PAUSE_S = 0.1
UNDER_WAY = 12
"""Batches that may be without all their ends."""
BATCH = (1, 1, 4, 16, 48)
AGAIN = (Unavailable, Overloaded, TimeoutError)
LOST = "job.unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client is to do; as `order.json` in its folder.

    Attributes:
        fire: File that says how much of the fire is over, 0 to 1: no client is done before it is.
    """

    gateway: str
    trust: str
    identity: str
    seed: int
    owner: int
    count: int
    fire: str

    def write(self, folder: Path) -> None:
        """For the client."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "order.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Order:
        """What `write` wrote."""
        return cls(**json.loads((folder / "order.json").read_text()))


class Submitter:
    """One life of a client; what earlier lives did is in the journal."""

    def __init__(self, order: Order, client: Client, notes: Journal, past: Sequence[dict[str, Any]]) -> None:
        self._order, self._jobs, self._notes = order, client.jobs, notes
        self._kept = {each["n"]: PreparedJob.from_bytes(_raw(each["job"])) for each in past if each["what"] == "kept"}
        self._accepted = {each["n"] for each in past if each["what"] == "accepted"}
        self._ended = {each["n"] for each in past if each["what"] in ("ended", "refused")}
        self._numbers = {job.ticket.job_id: number for number, job in self._kept.items()}
        self._room = asyncio.Semaphore(UNDER_WAY)
        self._row = asyncio.Lock()

    async def run(self) -> None:
        """Submit everything, and see everything end."""
        batches = list(in_batches(wanted(self._order.seed, self._order.count, self._order.owner), self._order.seed))
        async with asyncio.TaskGroup() as group:
            for at, batch in enumerate(batches):
                await self._until_due(at / len(batches))
                await self._room.acquire()
                group.create_task(self._batch(batch)).add_done_callback(lambda _: self._room.release())

    async def _until_due(self, share: float) -> None:
        fire = Path(self._order.fire)
        while float(await asyncio.to_thread(fire.read_text)) < share:
            await asyncio.sleep(PAUSE_S)

    async def _batch(self, batch: Sequence[Wanted]) -> None:
        alike: defaultdict[tuple[str, str, float], list[Wanted]] = defaultdict(list)
        for each in batch:
            if each.number not in self._kept:
                alike[each.alike].append(each)
        for (priority, order_key, life_s), each in alike.items():
            await self._prepare(each, priority=priority, order_key=order_key, life_s=life_s)
        numbers = [each.number for each in batch]
        async with self._row:  # or which job of a row was accepted first would be chance
            await self._send([number for number in numbers if number not in self._accepted | self._ended])
        await self._watch([number for number in numbers if number not in self._ended])

    async def _prepare(self, batch: Sequence[Wanted], **how: Any) -> None:
        keys = [str(each.number) for each in batch]
        while True:
            try:
                inputs = [{"x": each.x} for each in batch]
                prepared = await self._jobs.prepare(MODEL, inputs, keys=keys, timeout_s=PATIENCE_S, **how)
                break
            except AGAIN:
                await asyncio.sleep(PAUSE_S)
        made = dict(zip((each.number for each in batch), prepared, strict=True))
        self._note(
            {"what": "kept", "n": n, "job": base64.b64encode(job.to_bytes()).decode()} for n, job in made.items()
        )
        self._kept |= made
        self._numbers |= {job.ticket.job_id: number for number, job in made.items()}

    async def _send(self, numbers: Sequence[int]) -> None:
        while numbers:
            try:
                sent = await self._jobs.send([self._kept[number] for number in numbers], timeout_s=PATIENCE_S)
            except AGAIN:
                await asyncio.sleep(PAUSE_S)
                continue
            told, again = [], []
            for number, each in zip(numbers, sent, strict=True):
                if each.error is None:
                    told.append({"what": "accepted", "n": number, "id": each.job_id.hex(), "existed": each.existed})
                elif isinstance(each.error, AGAIN):
                    again.append(number)
                else:
                    told.append({"what": "refused", "n": number, **said(each.error)})
            self._note(told)
            self._accepted |= {each["n"] for each in told if each["what"] == "accepted"}
            self._ended |= {each["n"] for each in told if each["what"] == "refused"}
            numbers = again
            await asyncio.sleep(PAUSE_S if again else 0)

    async def _watch(self, numbers: Sequence[int]) -> None:
        left = {number for number in numbers if number not in self._ended}
        while left:
            try:
                tickets = [self._kept[number].ticket for number in sorted(left)]
                async for ticket, outcome in self._jobs.watch(tickets, timeout_s=PATIENCE_S):
                    number = self._numbers[ticket.job_id]
                    if isinstance(outcome, NotFound) and outcome.reason == LOST:
                        self._note([{"what": "lost", "n": number}])
                        await self._send([number])
                    else:
                        self._note([{"what": "ended", "n": number, **said(outcome)}])
                        self._ended.add(number)
                        left.discard(number)
            except AGAIN:
                await asyncio.sleep(PAUSE_S)

    def _note(self, entries: Any) -> None:
        self._notes.note(entries)


def said(outcome: Answer | CloisterError | TimeoutError) -> dict[str, str]:
    """What a client saw at the end of a job; of an answer also a digest that no second computing would have."""
    if not isinstance(outcome, Answer):
        return {"error": type(outcome).__name__, "reason": getattr(outcome, "reason", ""), "message": str(outcome)}
    proof = outcome.receipt
    assert proof is not None
    y = outcome.outputs["y"].tobytes()
    digest = hashlib.sha256(proof.receipt.SerializeToString(deterministic=True)).hexdigest()
    return {"y": base64.b64encode(y).decode(), "receipt": digest}


def in_batches(jobs: Sequence[Wanted], seed: int) -> Iterator[Sequence[Wanted]]:
    """All of them, in their order, by batches of different sizes."""
    draw, at = Random(seed), 0
    while at < len(jobs):
        size = draw.choice(BATCH)
        yield jobs[at : at + size]
        at += size


def _raw(text: str) -> bytes:
    return base64.b64decode(text)


async def main(folder: Path) -> None:
    """One life."""
    order = Order.read(folder)
    notes = folder / "journal.jsonl"
    with journal.opened(notes) as kept:
        past = journal.read(notes)
        async with Client.connect(order.gateway, trust=order.trust, identity=order.identity) as client:
            await Submitter(order, client, kept, past).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
