"""What gateways write into Redis about a job, each piece under a MAC that Redis cannot make (attacks H01, H02).

A *header* says everything about a job that does not change: whose, of which model, how long, what digest the request
has, which job must have ended before. An *end* says what became of it, and belongs to one header. A *proof* says that a
job has ended, for the next of its row; a *detour* says what precedes a job since the one before it was taken out of the
row. The tenant's own words, keys of jobs and of rows, go through a MAC too: Redis learns no patient's number.

HMAC-SHA256, a key for each kind, derived from the key that gateways share and Redis has not. A MAC covers JSON text as
it stands, and is checked before the text is parsed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cloister.api.v1.worker_pb2 import Failure
from cloister.errors import CloisterError, SealBroken
from cloister.gateway.jobs.job import Job, Priority, State
from cloister.rpc.status import failure_of, from_failure

MAC_BYTES: Final = 32
SKEW_MS: Final = 300_000
"""How far clocks may differ: what has ended is known for so long after its time, so that nobody computes it again."""
_LABEL: Final = b"cloister gateway jobs v1\0"
_NAME_BYTES: Final = 16
_REMEMBERED: Final = 2048  # headers that were checked, since who has claimed a job settles it
_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The job of a row that must have ended first; `job_id` is empty where there is none."""

    job_id: str = ""
    not_after_ms: int = 0


FIRST: Final = Predecessor()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A job without its request.

    Attributes:
        sealed: As it is in Redis.
        job_id: In hexadecimal, as Redis's keys have it.
        digest: SHA-256 of the request, in hexadecimal.
        key_name: What Redis calls the tenant's key for it; empty where there is none.
        row_name: As `key_name`, of its row.
        after: Its predecessor when it was submitted.
    """

    sealed: bytes = field(repr=False)
    model_name: str
    tenant: str
    job_id: str
    priority: Priority
    submitted_ms: int
    not_after_ms: int
    size_bytes: int
    digest: str
    key_name: str
    row_name: str
    after: Predecessor
    result_ttl_s: int

    @property
    def member(self) -> str:
        """What stands for it in the sorted set of jobs that have not ended."""
        return f"{self.job_id} {self.row_name}" if self.row_name else self.job_id

    def job(self, request: bytes) -> Job:
        """The job with its request; raises SealBroken where that is another's (`job.changed`)."""
        if len(request) != self.size_bytes or _digest(request) != self.digest:
            raise SealBroken(reason="job.changed")
        return Job(
            job_id=bytes.fromhex(self.job_id),
            tenant=self.tenant,
            model_name=self.model_name,
            request=request,
            submitted_ms=self.submitted_ms,
            not_after_ms=self.not_after_ms,
            priority=self.priority,
            result_ttl_s=self.result_ttl_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What became of a job.

    Attributes:
        digest: SHA-256 of the response, in hexadecimal; empty where there is none.
        size_bytes: Of the response.
    """

    state: State
    ended_ms: int
    kept_until_ms: int
    attempts: int
    digest: str
    size_bytes: int
    error: CloisterError | TimeoutError | None


class Records:
    """Makes and checks records of one cluster.

    Args:
        shared_key: 32 bytes that every gateway has and Redis has not.
        cluster: Trust domain; another one's records do not hold here.
    """

    def __init__(self, shared_key: bytes, cluster: str) -> None:
        def derived(use: bytes) -> bytes:
            info = _LABEL + use + b"\0" + cluster.encode()
            return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(shared_key)

        self._header_key, self._end_key = derived(b"header"), derived(b"end")
        self._proof_key, self._detour_key = derived(b"proof"), derived(b"detour")
        self._name_key = derived(b"name")
        self._headers = lru_cache(maxsize=_REMEMBERED)(self._open_header)
        self.key_id = derived(b"id")[:8].hex()
        """Tells whether two gateways have the same key, and nothing of it."""

    def header(self, job: Job, after: Predecessor = FIRST) -> bytes:
        """The header of a job that is submitted."""
        fields = [
            job.model_name,
            job.tenant,
            job.job_id.hex(),
            job.priority.value,
            job.submitted_ms,
            job.not_after_ms,
            len(job.request),
            _digest(job.request),
            self.name("key", job.model_name, job.tenant, job.key),
            self.name("row", job.model_name, job.tenant, job.order_key),
            after.job_id,
            after.not_after_ms,
            job.result_ttl_s,
        ]
        return _sealed(self._header_key, fields)

    def open_header(self, sealed: bytes, model_name: str) -> Header:
        """Read a header.

        Raises:
            SealBroken: By none of us, or changed (`job.forged`); of another model (`job.moved`).
        """
        header = self._headers(sealed)
        if header.model_name != model_name:
            raise SealBroken(reason="job.moved")
        return header

    def _open_header(self, sealed: bytes) -> Header:
        model, tenant, job_id, priority, submitted, not_after, size, digest, key, row, after, after_ms, ttl = _opened(
            self._header_key, sealed
        )
        return Header(
            sealed=sealed,
            model_name=model,
            tenant=tenant,
            job_id=job_id,
            priority=Priority(priority),
            submitted_ms=submitted,
            not_after_ms=not_after,
            size_bytes=size,
            digest=digest,
            key_name=key,
            row_name=row,
            after=Predecessor(after, after_ms),
            result_ttl_s=ttl,
        )

    def end(
        self,
        header: Header,
        state: State,
        *,
        now_ms: int,
        attempts: int,
        response: bytes = b"",
        error: BaseException | None = None,
    ) -> bytes:
        """What is kept of a job that has ended."""
        failure = failure_of(error) if error is not None else None
        fields = [
            header.sealed[:MAC_BYTES].hex(),
            state.value,
            now_ms,
            now_ms + header.result_ttl_s * 1000,
            attempts,
            _digest(response) if state is State.ANSWERED else "",
            len(response),
            [failure.error, failure.reason, failure.message] if failure else None,
        ]
        return _sealed(self._end_key, fields)

    def open_end(self, header: Header, sealed: bytes) -> End:
        """Read what became of a job.

        Raises:
            SealBroken: By none of us, or changed (`end.forged`); of another job (`end.moved`).
        """
        try:
            of, state, ended, kept, attempts, digest, size, failure = _opened(self._end_key, sealed)
        except SealBroken as broken:
            raise SealBroken(reason="end.forged") from broken
        if of != header.sealed[:MAC_BYTES].hex():
            raise SealBroken(reason="end.moved")
        error = from_failure(Failure(error=failure[0], reason=failure[1], message=failure[2])) if failure else None
        return End(
            state=State(state),
            ended_ms=ended,
            kept_until_ms=kept,
            attempts=attempts,
            digest=digest,
            size_bytes=size,
            error=error,
        )

    def proof(self, header: Header, job_id: str) -> bytes:
        """That a job of the same tenant and model has ended."""
        return _mac(self._proof_key, _text([header.model_name, header.tenant, job_id]))

    def detour(self, header: Header, before: Predecessor) -> bytes:
        """That something else precedes a job than when it was submitted."""
        whose = [header.model_name, header.tenant, header.job_id]
        return _sealed(self._detour_key, [*whose, before.job_id, before.not_after_ms])

    def predecessor(self, header: Header, detour: bytes) -> Predecessor:
        """What precedes a job now; raises SealBroken for a detour of none of us, or of another job (`row.forged`)."""
        if not detour:
            return header.after
        try:
            model, tenant, job_id, before, before_ms = _opened(self._detour_key, detour)
        except SealBroken as error:
            raise SealBroken(reason="row.forged") from error
        if (model, tenant, job_id) != (header.model_name, header.tenant, header.job_id):
            raise SealBroken(reason="row.forged")
        return Predecessor(before, before_ms)

    def check_turn(self, header: Header, detour: bytes, proof: bytes, now_ms: int) -> None:
        """Check that what precedes a job has ended, or may not be answered any more.

        Raises:
            SealBroken: Nobody of us says so: it is not its turn (`row.forged`).
        """
        if not header.row_name:
            return
        before = self.predecessor(header, detour)
        if not before.job_id or now_ms >= before.not_after_ms:
            return
        if not hmac.compare_digest(proof, self.proof(header, before.job_id)):
            raise SealBroken(reason="row.forged")

    def name(self, what: str, model_name: str, tenant: str, word: str) -> str:
        """What Redis calls a tenant's word; empty for none."""
        if not word:
            return ""
        return _mac(self._name_key, _text([what, model_name, tenant, word]))[:_NAME_BYTES].hex()


def matches(response: bytes, end: End) -> bool:
    """Whether this is the response that a job ended with."""
    return _digest(response) == end.digest


def _sealed(key: bytes, fields: list[Any]) -> bytes:
    text = _text(fields)
    return _mac(key, text) + text


def _opened(key: bytes, sealed: bytes) -> Any:
    mac, text = sealed[:MAC_BYTES], sealed[MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, text)):
        raise SealBroken(reason="job.forged")
    return json.loads(text)


def _text(fields: list[Any]) -> bytes:
    return _ENCODE(fields).encode()


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
