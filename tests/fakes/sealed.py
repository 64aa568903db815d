"""A client and workers that seal and open for each other, and ways to break bytes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import settings

from cloister.api.v1.seal_pb2 import OpenedResponse
from cloister.seal.hpke import X25519, KeyPair
from cloister.seal.session import ClientSessions, OpenedRequest, PendingResponse, RecipientKey, WorkerSessions

unhurried = settings(deadline=None)  # for hypothesis: a shared machine is slow now and then
CLUSTER = "demo.cloister.internal"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DIGEST = bytes(range(32))
ANSWER = OpenedResponse(response=b"an answer")


def flipped(raw: bytes, bit: int) -> bytes:
    """Return `raw` with one bit changed."""
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@dataclass
class FakeWorker:
    """A worker's sessions, its clock and the model it serves."""

    suite: str = X25519
    capacity: int = 8
    cluster: str = CLUSTER
    now: datetime = NOW
    digest: bytes | None = DIGEST
    instance: str = field(default_factory=lambda: secrets.token_hex(16))
    seal_version: int = 1

    def __post_init__(self) -> None:
        self.pair = KeyPair.generate(self.suite)
        self.sessions = WorkerSessions(self.pair, self.cluster, self.instance, self.capacity)
        self.sessions.epochs.attest(self.pair.key_id, "ear-1")

    @property
    def key(self) -> RecipientKey:
        return RecipientKey(self.instance, self.pair.suite, self.pair.public, self.seal_version)

    def rotate(self, ear_id: str, pair: KeyPair | None = None) -> KeyPair:
        """Begin a new epoch, and return the key pair of the one before, which opens still."""
        old, self.pair = self.pair, pair or KeyPair.generate(self.suite)
        self.sessions.epochs.expect(self.pair)
        self.sessions.epochs.attest(self.pair.key_id, ear_id)
        return old

    def open(self, sealed: bytes) -> OpenedRequest:
        return self.sessions.open(sealed, now=self.now, digest_of=lambda _name, _version: self.digest)


@dataclass
class FakeClient:
    """A client that seals to the workers it is given."""

    life: timedelta = timedelta(seconds=30)
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.sessions = ClientSessions(CLUSTER)

    def seal(
        self, *workers: FakeWorker, request: bytes = b"a request", padded: bool = False
    ) -> tuple[bytes, PendingResponse]:
        return self.sessions.seal(
            request,
            model_name="resnet",
            model_version="1",
            model_digest=DIGEST,
            not_after=self.now + self.life,
            recipients=[worker.key for worker in workers],
            padded=padded,
        )

    def ask(self, worker: FakeWorker, request: bytes = b"a request") -> bytes:
        """Go through a whole exchange and return the answer."""
        sealed, pending = self.seal(worker, request=request)
        return pending.open(worker.open(sealed).respond(ANSWER)).response
