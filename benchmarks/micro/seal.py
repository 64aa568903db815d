"""What sealing costs, step by step, in one process and on one core: `make bench-seal`.

Prints the tables of docs/decisions/0003-sealed-sessions.md and 0030-conversations.md, and how near sealing a model
comes to raw AES-256-GCM. Each figure is the best of several runs, because what disturbs a run only makes it slower;
ratios come from runs that alternate.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console
from rich.table import Table

from cloister.api.v1.seal_pb2 import ConversationTerms, OpenedResponse, ReceiptBody
from cloister.seal import hpke, receipt
from cloister.seal.conversation import MOST_REQUESTS, Subject
from cloister.seal.conversation_client import ClientConversation
from cloister.seal.conversation_worker import WorkerConversation, WorkerConversations
from cloister.seal.keys import ModelKey, Secret
from cloister.seal.model_file import seal_model
from cloister.seal.session import ClientSessions, PendingResponse, RecipientKey, WorkerSessions
from cloister.seal.session_keys import SEAL_VERSION

CLUSTER = "bench.cloister.internal"
DIGEST = bytes(32)
RUNS, TURNS = 7, 400
MODEL_BYTES = 256 << 20
ANSWER = OpenedResponse(response=bytes(500))


class Session:
    """One client and one worker that know each other."""

    def __init__(self, size_bytes: int, *, padded: bool) -> None:
        self.padded = padded
        pair, instance = hpke.KeyPair.generate(hpke.XWING), secrets.token_hex(16)
        self.request = secrets.token_bytes(size_bytes)
        self.recipient = RecipientKey(instance, pair.suite, pair.public, SEAL_VERSION)
        self.client = ClientSessions(CLUSTER)
        self.worker = WorkerSessions(pair, CLUSTER, instance)
        sealed, pending = self.seal()
        pending.open(self.open(sealed)(ANSWER))  # from here on the session is known

    def seal(self, *, conversation: bool = False) -> tuple[bytes, PendingResponse]:
        """The client's first step."""
        return self.client.seal(
            b"" if conversation else self.request,
            model_name="bench",
            model_version="1",
            model_digest=DIGEST,
            not_after=datetime.now(UTC) + timedelta(minutes=1),
            recipients=[self.recipient],
            padded=self.padded,
            conversation=conversation,
        )

    def open(self, sealed: bytes) -> Callable[[OpenedResponse], bytes]:
        """The worker's first step; returns its second."""
        return self.worker.open(sealed, now=datetime.now(UTC), digest_of=lambda *_: DIGEST).respond


def steps(size_bytes: int, turns: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds for each step of one request, the best of `RUNS`: as it is, and padded, in runs that alternate."""
    plain: dict[str, float] = {}
    padded: dict[str, float] = {}
    for _ in range(RUNS):
        for best, session in ((plain, Session(size_bytes, padded=False)), (padded, Session(size_bytes, padded=True))):
            for name, spent_s in _exchanges(session, turns).items():
                best[name] = min(best.get(name, 1.0), spent_s)
    return plain, padded


def _exchanges(session: Session, turns: int) -> dict[str, float]:
    spent = [0.0] * 4
    for _ in range(turns):
        marks = [time.perf_counter()]
        sealed, pending = session.seal()
        marks.append(time.perf_counter())
        respond = session.open(sealed)
        marks.append(time.perf_counter())
        answer = respond(ANSWER)
        marks.append(time.perf_counter())
        pending.open(answer)
        marks.append(time.perf_counter())
        spent = [total + end - begin for total, begin, end in zip(spent, marks[:-1], marks[1:], strict=True)]
    return {name: total / turns for name, total in zip(STEPS, spent, strict=True)}


STEPS = ("client seals", "worker opens", "worker seals", "client opens")


class Conversed:
    """One conversation; the client takes what it asks to the worker itself, in envelopes as they go to a gateway."""

    def __init__(self, size_bytes: int, *, padded: bool) -> None:
        session = Session(size_bytes, padded=padded)
        instance = session.recipient.instance
        sealed, pending = session.seal(conversation=True)
        opened = session.worker.open(sealed, now=datetime.now(UTC), digest_of=lambda *_: DIGEST)
        assert opened.conversation is not None
        subject = Subject(opened.request_id, instance, "bench", "1", DIGEST)
        terms = ConversationTerms(policy_digest=DIGEST, ear_id=secrets.token_hex(16), most_requests=MOST_REQUESTS)
        self.request = session.request
        self.client = ClientConversation(pending.conversation_keys(instance), subject, terms)
        self.worker = WorkerConversations()
        conversation = WorkerConversation(opened.conversation, subject, terms, session_id=bytes(16), ends_at_s=1.0)
        self.worker.add(conversation, 0.0)

    def marks(self) -> list[float]:
        """The clock before, between and after the four steps of one request; receipts are part of the last two."""
        marks = [time.perf_counter()]
        at, carried = self.client.seal(self.request)
        marks.append(time.perf_counter())
        chunk = self.worker.open(carried, 0.0)
        assert chunk is not None
        marks.append(time.perf_counter())
        answer = chunk.conversation.answer(chunk, ANSWER.response, 1_700_000_000_000)
        marks.append(time.perf_counter())
        self.client.open(at, self.request, answer)
        marks.append(time.perf_counter())
        return marks


def conversed(size_bytes: int, turns: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds for each step of one request in a conversation, as `steps`."""
    both: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for _ in range(RUNS):
        for best, padded in zip(both, (False, True), strict=True):
            conversation, spent = Conversed(size_bytes, padded=padded), [0.0] * 4
            for _ in range(turns):
                marks = conversation.marks()
                spent = [total + end - begin for total, begin, end in zip(spent, marks[:-1], marks[1:], strict=True)]
            for name, total in zip(STEPS, spent, strict=True):
                best[name] = min(best.get(name, 1.0), total / turns)
    return both


def each(work: Callable[[], object], turns: int = TURNS) -> float:
    """Seconds for one turn, the best of `RUNS`."""
    return min(_timed(work, turns) for _ in range(RUNS))


def _timed(work: Callable[[], object], turns: int) -> float:
    began = time.perf_counter()
    for _ in range(turns):
        work()
    return (time.perf_counter() - began) / turns


def batch(count: int) -> float:
    """Seconds for one receipt of a batch of `count`."""
    key, bodies = Ed25519PrivateKey.generate(), [ReceiptBody(version=receipt.VERSION, request_id=bytes(16))] * count
    return each(lambda: receipt.issue(bodies, key), TURNS // count or 1) / count


def model_speed(folder: Path) -> tuple[float, float]:
    """Bytes per second of sealing a model to nowhere, and of AES-256-GCM alone, from runs that alternate."""
    source = folder / "weights"
    source.write_bytes(os.urandom(1 << 20) * (MODEL_BYTES >> 20))
    raw, chunk, out = AESGCM(bytes(32)), memoryview(bytearray(1 << 20)), bytearray((1 << 20) + 16)

    def alone() -> None:
        for number in range(MODEL_BYTES >> 20):
            raw.encrypt_into(number.to_bytes(12), chunk, None, out)

    def model() -> None:
        with Path(os.devnull).open("wb") as sink:
            seal_model({"weights": source}, sink, ModelKey(Secret.random()), name="bench", version=1)

    times = [(_timed(model, 1), _timed(alone, 1)) for _ in range(RUNS)]
    return MODEL_BYTES / min(t for t, _ in times), MODEL_BYTES / min(t for _, t in times)


def main() -> None:
    """Measure and print."""
    small, large = steps(240, TURNS), steps(600_000, TURNS // 8)
    costs = [f"{sum(padded.values()) / sum(plain.values()) - 1:+.0%}" for plain, padded in (small, large)]
    pair = hpke.KeyPair.generate(hpke.XWING)
    sealed = hpke.seal(pair.suite, pair.public, bytes(32), b"bench")
    table = Table("step", "240 bytes", "600 KB", title="µs on one core, session known, one recipient")
    for name in small[0]:
        cells = [f"{plain[name] * 1e6:.1f} / {padded[name] * 1e6:.1f}" for plain, padded in (small, large)]
        table.add_row(f"{name}, unpadded / padded", *cells)
    table.add_row("padding adds to all four", *costs)
    small, large = conversed(240, TURNS), conversed(600_000, TURNS // 8)
    for name in STEPS:
        cells = [f"{plain[name] * 1e6:.1f} / {padded[name] * 1e6:.1f}" for plain, padded in (small, large)]
        table.add_row(f"in a conversation: {name}{', and receipt' if name in STEPS[2:] else ''}", *cells)
    table.add_row("a receipt, alone / in a batch of 32", f"{batch(1) * 1e6:.0f} / {batch(32) * 1e6:.1f}", "")
    seals = each(lambda: hpke.seal(pair.suite, pair.public, bytes(32), b"bench"))
    opens = each(lambda: pair.open(sealed, b"bench"))
    table.add_row("HPKE (X-Wing), seals / opens", f"{seals * 1e6:.0f} / {opens * 1e6:.0f}", "")
    console = Console()
    console.print(table)
    with TemporaryDirectory() as folder:
        model, alone = model_speed(Path(folder))
    console.print(
        f"sealing a model of {MODEL_BYTES >> 20} MiB: {model / 1e9:.1f} GB/s, AES-256-GCM alone {alone / 1e9:.1f}: "
        f"ratio {model / alone:.2f}"
    )


if __name__ == "__main__":
    main()
