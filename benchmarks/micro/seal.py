"""What sealing costs, step by step, in one process and on one core: `make bench-seal`.

Prints the table of docs/decisions/0003-sealed-sessions.md, and how near sealing a model comes to raw AES-256-GCM. Each
figure is the best of several runs, because what disturbs a run only ever makes it slower; ratios come from runs that
alternate.
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

from cloister.api.v1.seal_pb2 import OpenedResponse, ReceiptBody
from cloister.seal import hpke, receipt
from cloister.seal.keys import ModelKey, Secret
from cloister.seal.model_file import seal_model
from cloister.seal.session import ClientSessions, PendingResponse, RecipientKey, WorkerSessions

CLUSTER = "bench.cloister.internal"
DIGEST = bytes(32)
RUNS, TURNS = 7, 400
MODEL_BYTES = 256 << 20
ANSWER = OpenedResponse(response=bytes(500))


class Session:
    """One client and one worker that know each other."""

    def __init__(self, size_bytes: int) -> None:
        pair, instance = hpke.KeyPair.generate(hpke.XWING), secrets.token_hex(16)
        self.request = secrets.token_bytes(size_bytes)
        self.recipient = RecipientKey(instance, pair.suite, pair.public)
        self.client = ClientSessions(CLUSTER)
        self.worker = WorkerSessions(pair, CLUSTER, instance)
        sealed, pending = self.seal()
        pending.open(self.open(sealed)(ANSWER))  # from here on the session is known

    def seal(self) -> tuple[bytes, PendingResponse]:
        """The client's first step."""
        return self.client.seal(
            self.request,
            model_name="bench",
            model_version="1",
            model_digest=DIGEST,
            not_after=datetime.now(UTC) + timedelta(minutes=1),
            recipients=[self.recipient],
        )

    def open(self, sealed: bytes) -> Callable[[OpenedResponse], bytes]:
        """The worker's first step; returns its second."""
        return self.worker.open(sealed, now=datetime.now(UTC), digest_of=lambda *_: DIGEST).respond


def steps(size_bytes: int, turns: int) -> dict[str, float]:
    """Seconds for each step of one request, the best of `RUNS`."""
    best: dict[str, float] = {}
    for _ in range(RUNS):
        session, spent = Session(size_bytes), [0.0] * 4
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
        for name, total in zip(("client seals", "worker opens", "worker seals", "client opens"), spent, strict=True):
            best[name] = min(best.get(name, 1.0), total / turns)
    return best


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
    pair = hpke.KeyPair.generate(hpke.XWING)
    sealed = hpke.seal(pair.suite, pair.public, bytes(32), b"bench")
    table = Table("step", "240 bytes", "600 KB", title="µs on one core, session known, one recipient")
    for name in small:
        table.add_row(name, f"{small[name] * 1e6:.1f}", f"{large[name] * 1e6:.1f}")
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
