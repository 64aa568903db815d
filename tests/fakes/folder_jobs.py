"""Jobs at a gateway that is a folder, so that it outlives the clients which are killed while they use it.

It answers as a gateway does: what is submitted under a key is one job, what it says it has kept it keeps. And it does
what gateways do to clients: loses the connection before or after it has kept something, refuses for want of room,
forgets jobs. The model gives y = x + x and the version 1.
"""

from __future__ import annotations

import json
import random
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cloister.client import Answer
from cloister.contract import ModelContract, TensorSpec
from cloister.errors import CloisterError, InvalidRequest, NotFound, Overloaded
from cloister.oip.contents import Array
from cloister.oip.tensors import decode_request, encode_request, parse_request

MODEL = "double"
CONTRACT = ModelContract((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
_SCHEMA = """
CREATE TABLE job (
    job_id BLOB PRIMARY KEY, key TEXT NOT NULL UNIQUE, request BLOB NOT NULL, answered INTEGER NOT NULL
) STRICT;
CREATE TABLE event (what TEXT NOT NULL, key TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class FakeTicket:
    """Opens the answer of one job."""

    job_id: bytes
    model_name: str = MODEL

    def to_bytes(self, *, with_request: bool = True) -> bytes:
        return json.dumps([self.job_id.hex(), with_request]).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> FakeTicket:
        return cls(bytes.fromhex(json.loads(raw)[0]))


@dataclass(frozen=True, slots=True)
class FakePrepared:
    ticket: FakeTicket
    key: str
    request: bytes


@dataclass(frozen=True, slots=True)
class FakeSent:
    job_id: bytes
    existed: bool = False
    error: CloisterError | TimeoutError | None = None


@dataclass
class FolderJobs:
    """A client's jobs at such a gateway.

    Attributes:
        folder: Where it keeps them.
        troubles: How often, of a hundred calls, each trouble comes: "lost", "full", "slow", "forgotten", "expired".
        refuse: What is wrong with a request, or None.
        seed: Of the troubles.
    """

    folder: Path
    troubles: dict[str, int] = field(default_factory=dict)
    refuse: Callable[[dict[str, Array]], CloisterError | None] = lambda _inputs: None
    answer: Callable[[dict[str, Array]], dict[str, Array]] = lambda inputs: {"y": inputs["x"] + inputs["x"]}
    seed: int = 0

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        if not self._file.exists():
            with closing(sqlite3.connect(self._file)) as database:
                database.executescript(_SCHEMA)

    async def prepare(
        self, model: str, many: Sequence[dict[str, Array]], *, keys: Sequence[str], **_options: Any
    ) -> list[FakePrepared]:
        assert model == MODEL
        assert len(many) == len(keys)
        return [
            FakePrepared(FakeTicket(secrets.token_bytes(16)), key, encode_request(model, inputs).SerializeToString())
            for inputs, key in zip(many, keys, strict=True)
        ]

    async def send(self, prepared: Sequence[FakePrepared], *, timeout_s: float) -> list[FakeSent]:
        assert timeout_s > 0
        if self.troubles.get("full") == 100:  # the SDK has come again until the time was up
            full = Overloaded("full", reason="jobs.full", retry_after_s=0.001)
            return [FakeSent(each.ticket.job_id, error=full) for each in prepared]
        kept: list[FakeSent] = []
        for each in prepared:
            kept.append(self._keep(each))
        if self._happens("lost"):  # the SDK asks again, with the same bytes
            kept = [self._keep(each) for each in prepared]
        return kept

    async def watch(
        self, tickets: Sequence[FakeTicket], *, timeout_s: float
    ) -> AsyncIterator[tuple[FakeTicket, Answer | CloisterError | TimeoutError]]:
        assert timeout_s > 0
        if self._happens("slow"):
            raise TimeoutError("no job ended in time")
        shuffled = list(tickets)
        self._draw.shuffle(shuffled)
        for ticket in shuffled:
            yield ticket, self._outcome(ticket)

    async def forget(self, tickets: Sequence[FakeTicket], *, timeout_s: float) -> None:
        assert timeout_s > 0
        with self._changed() as database:
            database.executemany("DELETE FROM job WHERE job_id = ?", [(each.job_id,) for each in tickets])

    def events(self, what: str) -> list[str]:
        """Keys of the jobs to which this happened, in order."""
        with self._changed() as database:
            return [key for (key,) in database.execute("SELECT key FROM event WHERE what = ?", (what,))]

    @property
    def _file(self) -> Path:
        return self.folder / "gateway.sqlite"

    @contextmanager
    def _changed(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file, timeout=30)) as database, database:
            database.execute("PRAGMA synchronous = OFF")  # what the page cache has outlives every process
            yield database

    def _keep(self, made: FakePrepared) -> FakeSent:
        with self._changed() as database:
            found = database.execute("SELECT job_id FROM job WHERE key = ?", (made.key,)).fetchone()
            if found is not None:
                return FakeSent(found[0], existed=True)
            database.execute("INSERT INTO job VALUES (?, ?, ?, 0)", (made.ticket.job_id, made.key, made.request))
            database.execute("INSERT INTO event VALUES ('accepted', ?)", (made.key,))
        return FakeSent(made.ticket.job_id)

    def _outcome(self, ticket: FakeTicket) -> Answer | CloisterError | TimeoutError:
        with self._changed() as database:
            found = database.execute("SELECT key, request FROM job WHERE job_id = ?", (ticket.job_id,)).fetchone()
            if found is None:
                return NotFound("no such job", reason="job.unknown")
            key, request = found
            if self._happens("forgotten"):
                database.execute("DELETE FROM job WHERE job_id = ?", (ticket.job_id,))
                database.execute("INSERT INTO event VALUES ('forgotten', ?)", (key,))
                return NotFound("no such job", reason="job.unknown")
            if self._happens("expired"):
                database.execute("INSERT INTO event VALUES ('expired', ?)", (key,))
                return NotFound("the answer was not kept", reason="answer.expired")
        inputs = decode_request(parse_request(request))
        error = self.refuse(inputs)
        if error is not None:
            return error
        return Answer(
            outputs=self.answer(inputs), model_name=MODEL, model_version="1", carried=encode_request(MODEL, {})
        )

    def _happens(self, trouble: str) -> bool:
        return self._draw.randrange(100) < self.troubles.get(trouble, 0)


def values(rows: Iterable[int]) -> Array:
    """Inputs [n, 2] for rows of these numbers; no two are alike."""
    numbers = np.fromiter(rows, np.float32)
    return np.stack([numbers, numbers + 0.5], axis=1)


def negative(inputs: dict[str, Array]) -> CloisterError | None:
    """A model's dislike of numbers below zero."""
    if (inputs["x"] < 0).any():
        return InvalidRequest("a number below zero", reason="content.unfit")
    return None
