"""The client's half of sealed jobs (see `job`)."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from google.protobuf.message import DecodeError

from cloister.api.v1.seal_pb2 import JobHeader, KeptJob, OpenedJobResult, SealedJob, SealedJobResult
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import framing, hpke, padding
from cloister.seal import job_keys as keys
from cloister.seal.keys import KEY_BYTES, Secret
from cloister.seal.names import check_model
from cloister.seal.receipt import content_hash
from cloister.seal.session_keys import (
    DIGEST_BYTES,
    PADDED,
    SESSION_ID_BYTES,
    TAG_BYTES,
    ZERO_NONCE,
    milliseconds,
    request_cipher,
    transcript,
)

MAX_KNOWN: Final = 4
"""Attestation Results that a ticket keeps, some 4 KB each."""
_MAX_SESSIONS: Final = 256
_LATEST_MS: Final = 1 << 47


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKey:
    """A model's epoch key, as a believed worker vouches for it.

    Attributes:
        model_name: Whose jobs are sealed to it.
        epoch: Its number.
        suite: Of HPKE, as `public` is.
        public: The key.
        seal_until: Nothing is sealed to it later.
        open_until: It is destroyed then, and no job's deadline may lie beyond.
    """

    model_name: str
    epoch: int
    suite: str
    public: bytes
    seal_until: datetime
    open_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTicket:
    """Opens the answer to one job. Whoever has it can read the answer, and the request where it holds that.

    Attributes:
        job_id: 16 bytes.
        model_name: As in the header, as are the next three.
        model_version: A number if no other version may answer.
        model_digest: Empty if any may answer.
        not_after: Aware UTC, as is the next.
        sealed_at: By the client's clock; nobody has answered it earlier.
        padded: Whether the answer must be.
        request: Serialised ModelInferRequest, as it was sealed; empty where it is kept elsewhere.
        request_sha256: What the receipt of its answer says of it.
        results: Attestation Results that the header names as known: an answer under one of them leaves it out.
    """

    job_id: bytes
    model_name: str
    model_version: str
    model_digest: bytes
    not_after: datetime
    sealed_at: datetime
    padded: bool
    request: bytes = field(repr=False)
    request_sha256: bytes = field(repr=False)
    results: tuple[str, ...] = field(default=(), repr=False)
    _seed: Secret = field(repr=False)
    _transcript: bytes = field(repr=False)

    def open(self, sealed: bytes) -> OpenedJobResult:
        """Open a serialised SealedJobResult: an answer to this job, by whichever worker had the epoch key.

        Returns:
            The answer, with the Attestation Result that its receipt names also where it left that out.

        Raises:
            SealBroken: Altered, to another job, or not padded as it was asked to be.
        """
        try:
            fields, head, ciphertext = framing.split(sealed, keys.ANSWER_CIPHERTEXT)
            salt = SealedJobResult.FromString(fields).salt
            if len(salt) != keys.SALT_BYTES:
                raise SealBroken
            cipher = keys.answer_cipher(self._seed.reveal(), salt)
            opened = cipher.decrypt(ZERO_NONCE, ciphertext, self._transcript + head)
            result = OpenedJobResult.FromString(padding.strip(opened) if self.padded else opened)
        except (InvalidTag, DecodeError):
            raise SealBroken from None
        if result.WhichOneof("outcome") is None:
            raise SealBroken
        if result.HasField("known_result"):
            if result.attestation_result or not 0 < result.known_result <= len(self.results):
                raise SealBroken
            result.attestation_result = self.results[result.known_result - 1]
            result.ClearField("known_result")
        return result

    def to_bytes(self, *, with_request: bool = True) -> bytes:
        """Return what `from_bytes` reads, to keep where nobody else can read it (mode 0600).

        Args:
            with_request: Whether to keep the request too, in clear. The receipt of an answer proves what was asked; who
                leaves the request out has to bring it himself.
        """
        kept = KeptJob(
            version=keys.VERSION,
            job_id=self.job_id,
            model_name=self.model_name,
            model_version=self.model_version,
            model_digest=self.model_digest,
            not_after_ms=milliseconds(self.not_after),
            padding=PADDED if self.padded else 0,
            response_seed=self._seed.reveal(),
            transcript=self._transcript,
            request_sha256=self.request_sha256,
            request=self.request if with_request else b"",
            sealed_at_ms=milliseconds(self.sealed_at),
            attestation_results=self.results,
        )
        return kept.SerializeToString(deterministic=True)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a ticket.

        Raises:
            InvalidRequest: It is none (reason `ticket.malformed`).
        """
        try:
            kept = KeptJob.FromString(raw)
            check_model(kept.model_name, 1)
        except (DecodeError, InvalidRequest):
            raise _malformed() from None
        lengths = (len(kept.job_id), len(kept.response_seed), len(kept.transcript), len(kept.request_sha256))
        if kept.version != keys.VERSION or lengths != (keys.JOB_ID_BYTES, KEY_BYTES, DIGEST_BYTES, DIGEST_BYTES):
            raise _malformed()
        if kept.padding not in (0, PADDED):
            raise _malformed()
        if not all(0 < moment < _LATEST_MS for moment in (kept.not_after_ms, kept.sealed_at_ms)):
            raise _malformed()
        if kept.request and content_hash(kept.job_id, kept.request) != kept.request_sha256:
            raise _malformed()
        return cls(
            job_id=kept.job_id,
            model_name=kept.model_name,
            model_version=kept.model_version,
            model_digest=kept.model_digest,
            not_after=datetime.fromtimestamp(kept.not_after_ms / 1000, UTC),
            sealed_at=datetime.fromtimestamp(kept.sealed_at_ms / 1000, UTC),
            padded=kept.padding == PADDED,
            request=kept.request,
            request_sha256=kept.request_sha256,
            results=tuple(kept.attestation_results),
            _seed=Secret(kept.response_seed),
            _transcript=kept.transcript,
        )


class JobSealer:
    """Seals jobs; not for use from several threads at once.

    Args:
        cluster: Trust domain of the workers.
    """

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._sessions: OrderedDict[tuple[str, int, bytes], _Session] = OrderedDict()

    def seal(
        self,
        request: bytes,
        *,
        epoch: JobKey,
        not_after: datetime,
        job_id: bytes | None = None,
        model_version: str = "",
        model_digest: bytes = b"",
        padded: bool = True,
        known: Mapping[str, str] | None = None,
        now: datetime | None = None,
    ) -> tuple[bytes, JobTicket]:
        """Seal a serialised ModelInferRequest to whoever has the epoch's key.

        Args:
            request: What only they may read.
            epoch: The key.
            not_after: Nobody is interested later; at most until the key is destroyed.
            job_id: 16 bytes; None for random ones. A job that is sealed anew under an id is another one.
            model_version: As in the request: a number and no other version answers; a label, or empty, and the mesh's
                operator says which.
            model_digest: The one model that may answer; empty for each that the epoch's policy lets have the key.
            padded: Whether to hide lengths, of request and answer.
            known: Attestation Results by `jti`, `MAX_KNOWN` at most: whoever answers under one of them does not send it
                along, since the ticket has it.
            now: Aware UTC; None for the clock's.

        Returns:
            A serialised SealedJob, and what opens the answer to it.

        Raises:
            InvalidRequest: The key, the id or the digest is none, or the deadline lies beyond the key's end
                (`request.too_long`).
        """
        if job_id is None:
            job_id = secrets.token_bytes(keys.JOB_ID_BYTES)
        if len(job_id) != keys.JOB_ID_BYTES or len(model_digest) not in (0, DIGEST_BYTES):
            raise InvalidRequest("a job's id has 16 bytes, and a model's digest 32")
        known = known or {}
        if len(known) > MAX_KNOWN:
            raise InvalidRequest(f"a job names {MAX_KNOWN} Attestation Results at most")
        if not_after > epoch.open_until:
            left_s = max(int((epoch.open_until - datetime.now(UTC)).total_seconds()), 0)
            raise InvalidRequest(
                f"the job would outlive the key that it is sealed to, which ends in {left_s} s; name a shorter life",
                reason="request.too_long",
            )
        session = self._session(epoch)
        header = JobHeader(
            version=keys.VERSION,
            job_id=job_id,
            model_name=epoch.model_name,
            model_version=model_version,
            model_digest=model_digest,
            not_after_ms=milliseconds(not_after),
            padding=PADDED if padded else 0,
            epoch=epoch.epoch,
            key_id=session.key_id,
            known_results=known,
        ).SerializeToString()
        both = secrets.token_bytes(2 * KEY_BYTES)
        fields = session.fields(header, job_id, both)
        content = padding.pad(request) if padded else request
        head = framing.head(fields, keys.JOB_CIPHERTEXT, len(content) + TAG_BYTES)
        ciphertext = request_cipher(both[:KEY_BYTES]).encrypt(ZERO_NONCE, content, head)
        ticket = JobTicket(
            job_id=job_id,
            model_name=epoch.model_name,
            model_version=model_version,
            model_digest=model_digest,
            not_after=not_after,
            sealed_at=datetime.fromtimestamp(milliseconds(now or datetime.now(UTC)) / 1000, UTC),
            padded=padded,
            request=request,
            request_sha256=content_hash(job_id, request),
            results=tuple(known.values()),
            _seed=Secret(both[KEY_BYTES:]),
            _transcript=transcript(header, ciphertext[-TAG_BYTES:]),
        )
        return head + ciphertext, ticket

    def _session(self, epoch: JobKey) -> _Session:
        name = (epoch.model_name, epoch.epoch, epoch.public)
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = _Session(self._cluster, epoch)
            if len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return session


class _Session:
    """One secret shared with whoever has an epoch's key."""

    __slots__ = ("_opening", "_session_id", "_wrapping", "key_id")

    def __init__(self, cluster: str, epoch: JobKey) -> None:
        secret = Secret.random()
        self._session_id = secrets.token_bytes(SESSION_ID_BYTES)
        self.key_id = hpke.key_id(epoch.suite, epoch.public)
        info = keys.opening_info(cluster, epoch.model_name, epoch.epoch, self.key_id, self._session_id)
        self._opening = hpke.seal(epoch.suite, epoch.public, secret.reveal(), info)
        self._wrapping = keys.wrapping_cipher(secret, self._session_id)

    def fields(self, header: bytes, job_id: bytes, both: bytes) -> bytes:
        """All of a SealedJob that stands before its ciphertext."""
        aad = keys.wrapping_aad(header, self._session_id)
        return SealedJob(
            header=header,
            session_id=self._session_id,
            wrapped_keys=self._wrapping.encrypt(keys.wrapping_nonce(job_id), both, aad),
            opening=self._opening,
        ).SerializeToString()


def _malformed() -> InvalidRequest:
    return InvalidRequest("this is no ticket of a job, or not all of one", reason="ticket.malformed")
