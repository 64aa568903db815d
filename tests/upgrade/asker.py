"""A client that never stops asking, by the SDK of whichever version's Python runs it: `python asker.py FOLDER`.

It asks sealed, in clear, on a stream, and by jobs, until SIGTERM, and notes every answer in `notes.jsonl`, with how
often something had to be asked again. When its trust bundle changes it connects anew, as a client does that is given a
new one. It imports the SDK's public names, NumPy, and one seam where attempts are counted: no module of the tests,
which are of one version only.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import cloister.client.client as sdk
from cloister import Client
from cloister.errors import CloisterError, NotReady, Unavailable

PATIENCE_S = 20.0
JOB_PATIENCE_S = 90.0
PAUSE_S = 0.2
LOOK_S = 0.1
TOLERANCE = 1e-5

Question = tuple[np.ndarray, np.ndarray]
Ask = Callable[[Client, np.ndarray], Awaitable[Any]]


@dataclass
class Asker:
    """Everything that one process asks.

    Attributes:
        order: `gateways`, `trust`, `identity` and `model`.
        questions: Inputs and what is right for each.
        notes: Where answers are noted.
        attempts: Of the SDK, in all.
    """

    order: dict[str, Any]
    questions: list[Question]
    notes: TextIO
    attempts: int = 0
    asked: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until `stop`."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop.set)
        self._count_attempts()
        gateways, trust, identity = (self.order[name] for name in ("gateways", "trust", "identity"))
        while not self.stop.is_set():
            over = asyncio.Event()
            believed = _content(trust)
            async with Client.connect(gateways, trust=trust, identity=identity) as client, asyncio.TaskGroup() as group:
                group.create_task(self._loop("sealed", client, over, self._sealed))
                group.create_task(self._loop("plain", client, over, self._plain))
                group.create_task(self._streamed(client, over))
                for _ in range(2):
                    group.create_task(self._loop("job", client, over, self._job))
                while not self.stop.is_set() and _content(trust) == believed:  # noqa: ASYNC110  # files have no events
                    await asyncio.sleep(LOOK_S)
                over.set()

    async def _loop(self, kind: str, client: Client, over: asyncio.Event, ask: Ask) -> None:
        while not over.is_set():
            self.asked += 1
            x, y = self.questions[self.asked % len(self.questions)]
            began, error, by = time.time(), "", ""
            try:
                answer = await ask(client, x)
                result = answer.worker.result if answer.worker is not None else answer.attestation
                by = result.mrenclave if result is not None else ""
                if not np.allclose(answer.outputs["y"], y, atol=TOLERANCE):
                    error = "wrong: the answer is another's"
            except (CloisterError, TimeoutError) as failed:
                error = f"{type(failed).__name__} {getattr(failed, 'reason', '')}: {failed}"
            self._note(kind, began, error, by)
            await asyncio.sleep(PAUSE_S)

    async def _streamed(self, client: Client, over: asyncio.Event) -> None:
        async with client.stream() as stream:
            await self._loop("stream", stream, over, self._sealed)

    async def _sealed(self, client: Client, x: np.ndarray) -> Any:
        return await client.infer(self.order["model"], {"x": x}, timeout_s=PATIENCE_S)

    async def _plain(self, client: Client, x: np.ndarray) -> Any:
        return await client.infer(self.order["model"], {"x": x}, sealed=False, timeout_s=PATIENCE_S)

    async def _job(self, client: Client, x: np.ndarray) -> Any:
        """One job, to its end: what was accepted and has none is a failure."""
        (job,) = await client.jobs.prepare(self.order["model"], [{"x": x}], timeout_s=PATIENCE_S)
        (sent,) = await client.jobs.send([job], timeout_s=PATIENCE_S)
        if sent.error is not None:
            raise sent.error
        until = time.monotonic() + JOB_PATIENCE_S
        while True:
            try:
                return await client.jobs.result(job.ticket, wait_s=PATIENCE_S)
            except (Unavailable, NotReady, TimeoutError):
                self.attempts += 1
                if time.monotonic() > until:
                    raise

    def _note(self, kind: str, began: float, error: str, by: str) -> None:
        told = {"kind": kind, "began": began, "at": time.time(), "error": error, "by": by, "attempts": self.attempts}
        self.attempts = 0
        self.notes.write(json.dumps(told) + "\n")
        self.notes.flush()

    def _count_attempts(self) -> None:
        """Have each attempt of the SDK counted that is not the first of its call."""
        once = sdk.attempts

        async def counted(call: Callable[[float], Awaitable[Any]], timeout_s: float) -> Any:
            self.attempts -= 1

            async def attempt(left_s: float) -> Any:
                self.attempts += 1
                return await call(left_s)

            return await once(attempt, timeout_s)

        sdk.attempts = counted


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


def main(folder: Path) -> None:
    """Ask until told to end."""
    order = json.loads((folder / "order.json").read_text())
    with np.load(order["questions"]) as held:
        questions = list(zip(held["x"], held["y"], strict=True))
    with (folder / "notes.jsonl").open("a") as notes:
        asyncio.run(Asker(order, questions, notes).run())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
