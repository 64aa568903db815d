"""What a sealed job costs client and worker, step by step, in one process and on one core: `make bench-job-seal`.

Prints the table of docs/decisions/0046-sealed-jobs.md. Steps are whole: envelopes, receipts and Attestation Results are
part of them, tensors and the wire are not. Each figure is the best of several runs, because what disturbs a run only
makes it slower.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import OpenedJobResult, ReceiptBody
from cloister.seal import envelope, hpke, receipt
from cloister.seal.job import JobKey, JobOpener, JobSealer, JobTicket, OpenedJob

CLUSTER, MODEL = "bench.cloister.internal", "bench"
RUNS, TURNS, BATCH = 7, 512, 32
EAR_ID, TOKEN = secrets.token_hex(16), secrets.token_urlsafe(2500)
"""An Attestation Result, about as long as one that names an X-Wing key; tickets have it, and answers leave it out."""
STEPS = ("client seals", "worker opens", "worker answers", "client opens")


class Exchange:
    """One client and one worker with the key of one epoch."""

    def __init__(self, size_bytes: int, *, padded: bool) -> None:
        pair, ends = hpke.KeyPair.generate(hpke.XWING), datetime.now(UTC) + timedelta(days=2)
        self._request, self._response, self._padded = secrets.token_bytes(size_bytes), bytes(240), padded
        self._key = JobKey(
            model_name=MODEL, epoch=1, suite=pair.suite, public=pair.public, seal_until=ends, open_until=ends
        )
        self._sealer = JobSealer(CLUSTER)
        self._opener = JobOpener(lambda _name, key_id: pair if key_id == pair.key_id else None, CLUSTER)
        self._signs = Ed25519PrivateKey.generate()
        self._public = self._signs.public_key().public_bytes_raw()

    def seal(self) -> tuple[bytes, JobTicket]:
        """The client's first step."""
        not_after = datetime.now(UTC) + timedelta(hours=1)
        sealed, ticket = self._sealer.seal(
            self._request, epoch=self._key, not_after=not_after, padded=self._padded, known={EAR_ID: TOKEN}
        )
        return envelope.build_job(sealed, model_name=MODEL).SerializeToString(), ticket

    def open(self, carried: bytes) -> OpenedJob:
        """The worker's first step."""
        message = ModelInferRequest.FromString(carried)
        job = self._opener.open(envelope.sealed_job(message), now=datetime.now(UTC), digest_of=lambda *_: None)
        envelope.check_job(message, model_name=job.model_name, model_version=job.model_version)
        return job

    def answer(self, jobs: list[OpenedJob]) -> list[bytes]:
        """The worker's second step, for jobs that leave together."""
        receipts = receipt.issue([self._body(job) for job in jobs], self._signs)
        results = [OpenedJobResult(response=self._response, receipt=proof, known_result=1) for proof in receipts]
        return [
            envelope.build_job_result(job.respond(result), model_name=MODEL, model_version="").SerializeToString()
            for job, result in zip(jobs, results, strict=True)
        ]

    def read(self, ticket: JobTicket, carried: bytes) -> None:
        """The client's second step; whose Attestation Result it is has been checked for another answer before."""
        message = ModelInferResponse.FromString(carried)
        result = ticket.open(envelope.sealed_job_result(message, model_name=MODEL, model_version=""))
        body = receipt.verify(result.receipt, self._public)
        found = (body.request_sha256, body.response_sha256)
        if found != (ticket.request_sha256, receipt.content_hash(ticket.job_id, result.response)):
            raise ValueError("the receipt is for another answer")

    def _body(self, job: OpenedJob) -> ReceiptBody:
        return ReceiptBody(
            version=receipt.VERSION,
            request_id=job.job_id,
            request_sha256=job.request_sha256,
            response_sha256=receipt.content_hash(job.job_id, self._response),
            model_name=MODEL,
            model_version="1",
            model_digest=bytes(32),
            policy_digest=bytes(32),
            ear_id=EAR_ID,
            instance=secrets.token_hex(16),
            issued_at_ms=1_700_000_000_000,
        )


def steps(size_bytes: int, *, padded: bool, turns: int = TURNS) -> dict[str, float]:
    """Seconds for each step of one job, the best of `RUNS`."""
    exchange, best = Exchange(size_bytes, padded=padded), dict.fromkeys(STEPS, 1.0)
    exchange.open(exchange.seal()[0])  # HPKE is paid
    for _ in range(RUNS):
        for name, spent_s in zip(STEPS, _spent(exchange, turns), strict=True):
            best[name] = min(best[name], spent_s / turns)
    return best


def _spent(exchange: Exchange, turns: int) -> list[float]:
    marks = [time.perf_counter()]
    sealed = [exchange.seal() for _ in range(turns)]
    marks.append(time.perf_counter())
    jobs = [exchange.open(carried) for carried, _ in sealed]
    marks.append(time.perf_counter())
    answers = [answer for first in range(0, turns, BATCH) for answer in exchange.answer(jobs[first : first + BATCH])]
    marks.append(time.perf_counter())
    for (_, ticket), answer in zip(sealed, answers, strict=True):
        exchange.read(ticket, answer)
    marks.append(time.perf_counter())
    return [end - begin for begin, end in pairwise(marks)]


def once(work: Callable[[], object]) -> float:
    """Seconds for one turn, the best of some."""
    spent_s = 1.0
    for _ in range(50):
        began_s = time.perf_counter()
        work()
        spent_s = min(spent_s, time.perf_counter() - began_s)
    return spent_s


def main() -> None:
    """Measure and print."""
    columns = [steps(size, padded=padded, turns=turns) for size, turns in SIZES for padded in (False, True)]
    headings = [f"{name}, {how}" for name in ("240 bytes", "600 KB") for how in ("unpadded", "padded")]
    table = Table("µs of one core, each job", *headings)
    for name in STEPS:
        table.add_row(name, *(f"{column[name] * 1e6:.1f}" for column in columns))
    table.add_row("all four", *(f"{sum(column.values()) * 1e6:.0f}" for column in columns))
    Console(width=120).print(table)
    pair = hpke.KeyPair.generate(hpke.XWING)
    sealed = hpke.seal(pair.suite, pair.public, bytes(32), b"bench")
    seals = once(lambda: hpke.seal(pair.suite, pair.public, bytes(32), b"bench"))
    opens = once(lambda: pair.open(sealed, b"bench"))
    Console(width=120).print(
        f"HPKE with X-Wing, once for each client and epoch: {seals * 1e6:.0f} µs to seal, {opens * 1e6:.0f} to open"
    )


SIZES = ((240, TURNS), (600_000, TURNS // 8))

if __name__ == "__main__":
    main()
