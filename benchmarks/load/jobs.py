"""The load of jobs, a process of its own: `python -m benchmarks.load.jobs TARGET`, told what to do on stdin.

`{"expect": FOLDER}` compares every later answer with those there; anything else is a `Volley`. Every job is sealed and
its answer opened while counting; then its record is dropped, as many in a call as were submitted: else it would be kept
for as long as the job might live.
"""

from __future__ import annotations

from cloister.kit.lifecycle import require_tls13

require_tls13()

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from benchmarks.load import questions
from benchmarks.load.carriers import Target
from benchmarks.load.checked import TOLERANCE
from benchmarks.load.questions import Arrays
from benchmarks.load.turns import BEGAN, Counted, Volley, say

from cloister import Client
from cloister.client import Answer, PreparedJob
from cloister.errors import Overloaded

PAUSE_S = 0.02


@dataclass(slots=True)
class Asker:
    """Asks by jobs, and remembers how long each took."""

    client: Client
    model: str
    inputs: Sequence[Arrays]
    expected: Sequence[Arrays] = ()
    took_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def fire(self, volley: Volley, began: Callable[[], None]) -> Counted:
        """All of it; `began` is called when counting starts."""
        self.took_s, self.errors = [], []
        room = asyncio.Semaphore(max(1, volley.under_way // volley.together))
        began()
        at, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            async for each in self._sealed(volley):
                await room.acquire()
                group.create_task(self._ask(*each)).add_done_callback(lambda _: room.release())
        elapsed_s, cpu_s = time.perf_counter() - at, time.process_time() - cpu
        return Counted.of(self.took_s, self.errors, elapsed_s=elapsed_s, cpu_s=cpu_s)

    async def _sealed(self, volley: Volley) -> AsyncIterator[tuple[list[PreparedJob], list[int]]]:
        """By calls: the jobs, and the number of the question in each."""
        for first in range(0, volley.jobs, volley.together):
            count = min(volley.together, volley.jobs - first)
            numbers = [at % len(self.inputs) for at in range(first, first + count)]
            inputs = [self.inputs[number] for number in numbers]
            yield await self.client.jobs.prepare(self.model, inputs), numbers

    async def _ask(self, prepared: Sequence[PreparedJob], numbers: Sequence[int]) -> None:
        sent_s, left = time.perf_counter(), list(prepared)
        while left:
            sent = await self.client.jobs.send(left)
            again = [job for job, each in zip(left, sent, strict=True) if isinstance(each.error, Overloaded)]
            self.errors += [str(each.error) for each in sent if each.error and not isinstance(each.error, Overloaded)]
            left = again
            await asyncio.sleep(PAUSE_S if again else 0)
        of_id = {job.ticket.job_id: number for job, number in zip(prepared, numbers, strict=True)}
        async for ticket, outcome in self.client.jobs.watch([job.ticket for job in prepared]):
            self._count(of_id[ticket.job_id], outcome, time.perf_counter() - sent_s)
        await self.client.jobs.forget([job.ticket for job in prepared])

    def _count(self, number: int, outcome: Any, took_s: float) -> None:
        if not isinstance(outcome, Answer):
            self.errors.append(f"{type(outcome).__name__}: {outcome}"[:300])
        elif self.expected and not questions.difference(dict(outcome.outputs), self.expected[number]) <= TOLERANCE:
            self.errors.append(f"another answer than OpenVINO's to question {number}")
        else:
            self.took_s.append(took_s)


async def serve(target: Target) -> None:
    """Do what is said, until nothing more is."""
    inputs = questions.read(Path(target.questions))
    async with Client.connect(target.address, trust=target.trust, identity=target.identity) as client:
        asker = Asker(client, target.model, inputs)
        while line := await asyncio.to_thread(sys.stdin.readline):
            told = json.loads(line)
            if "expect" in told:
                folder = Path(told["expect"])
                asker.expected = [questions.load(folder / f"answers-{number}.npz") for number in range(len(inputs))]
                say({"expected": told["expect"]})
            else:
                counted = await asker.fire(Volley(**told), lambda: say(BEGAN))
                say(counted.to_dict())


if __name__ == "__main__":
    uvloop.run(serve(Target(**json.loads(sys.argv[1]))))
