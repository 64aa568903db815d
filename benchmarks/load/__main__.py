"""The load, a process of its own for each target: `python -m benchmarks.load TARGET`, told what to do on stdin.

`{"check": FOLDER}` asks every question and keeps the answers there; `{"expect": FOLDER}` compares every later answer
with those; `{"pace": {...}}` is a `Pace`, anything else a `Turn`.
"""

from __future__ import annotations

from cloister.kit.lifecycle import require_tls13

require_tls13()

import asyncio
import json
import sys
from pathlib import Path

import uvloop
from benchmarks.load import questions
from benchmarks.load.carriers import Carrier, Target, opened
from benchmarks.load.checked import Checked
from benchmarks.load.open_loop import Pace, paced
from benchmarks.load.turns import BEGAN, Turn, say, taken


async def check(carrier: Carrier, target: Target, folder: Path) -> int:
    """Ask every question, all of them at once; returns how many there were."""
    count = len(questions.read(Path(target.questions)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(carrier.ask(number)) for number in range(count)]
    for number, task in enumerate(tasks):
        questions.save(folder / f"answers-{number}.npz", carrier.arrays(task.result()))
    return count


async def serve(target: Target) -> None:
    """Do what is said, until nothing more is."""
    async with opened(target) as bare:
        carrier: Carrier = bare
        while line := await asyncio.to_thread(sys.stdin.readline):
            told = json.loads(line)
            if "check" in told:
                say({"checked": await check(carrier, target, Path(told["check"]))})
            elif "expect" in told:
                carrier = Checked.against(bare, Path(told["expect"]))
                say({"expected": told["expect"]})
            elif "pace" in told:
                came = await paced(Pace(**told["pace"]), carrier.ask, lambda: say(BEGAN))
                say(came.to_dict())
            else:
                counted = await taken(Turn(**told), carrier.ask, lambda: say(BEGAN))
                say(counted.to_dict())


if __name__ == "__main__":
    uvloop.run(serve(Target(**json.loads(sys.argv[1]))))
