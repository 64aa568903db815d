"""Sealed jobs: what a worker opens of bytes that a gateway, or Redis, has changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from cloister.api.v1.seal_pb2 import JobHeader, SealedJob
from cloister.errors import InvalidRequest, NotReady, SealBroken
from cloister.seal import hpke
from cloister.seal.job import JobKey, JobOpener, JobSealer
from fuzz.mutation import changed_bytes, changed_number
from fuzz.target import Violation

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CLUSTER = "fuzz.internal"
_FIELDS = ("header", "session_id", "wrapped_keys", "opening", "ciphertext")


class Jobs:
    """`JobOpener.open`, by a worker that knows the client and by one that does not."""

    name = "job"

    def __init__(self) -> None:
        pair = hpke.KeyPair.generate(hpke.X25519)
        self._pairs = {("resnet", pair.key_id): pair}
        self._knowing = JobOpener(self._pair_of, CLUSTER)
        self._sent = {f"request {number}".encode() for number in range(4)}
        ends = NOW + timedelta(days=1)
        key = JobKey(
            model_name="resnet", epoch=3, suite=pair.suite, public=pair.public, seal_until=ends, open_until=ends
        )
        sealers = [JobSealer(CLUSTER) for _ in range(2)]
        self.seeds = [
            sealers[number % 2].seal(request, epoch=key, not_after=ends, padded=number > 1)[0]
            for number, request in enumerate(sorted(self._sent))
        ]
        for seed in self.seeds:
            self._open(self._knowing, seed)

    def judge(self, raw: bytes) -> None:
        outcomes = [self._outcome(opener, raw) for opener in (self._knowing, JobOpener(self._pair_of, CLUSTER))]
        if outcomes[0] != outcomes[1]:
            raise Violation("who knows the client opens something else than who does not")
        if isinstance(outcomes[0], str):
            raise InvalidRequest("refused", reason=outcomes[0])
        if outcomes[0] not in self._sent or raw not in self.seeds:
            raise Violation("a job was opened that nobody sealed")

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        if rng.random() < 0.4:
            return changed_bytes(rng, raw)
        job, other = SealedJob.FromString(raw), SealedJob.FromString(rng.choice(self.seeds))
        field = rng.choice(_FIELDS)
        match rng.randrange(4):
            case 0:
                setattr(job, field, getattr(other, field))
            case 1:
                setattr(job, field, changed_bytes(rng, getattr(job, field)))
            case 2:
                header = JobHeader.FromString(job.header)
                header.epoch = changed_number(rng, header.epoch) % (1 << 64)
                header.not_after_ms += rng.choice((-1, 1, 1000))
                job.header = header.SerializeToString()
            case _:
                return raw + job.SerializeToString()
        return job.SerializeToString()

    def _outcome(self, opener: JobOpener, raw: bytes) -> bytes | str:
        try:
            return self._open(opener, raw)
        except (InvalidRequest, SealBroken, NotReady) as error:
            return error.reason

    def _open(self, opener: JobOpener, raw: bytes) -> bytes:
        return opener.open(raw, now=NOW, digest_of=lambda *_: None).request

    def _pair_of(self, name: str, key_id: bytes) -> hpke.KeyPair | None:
        return self._pairs.get((name, key_id))
