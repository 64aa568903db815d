"""The client's half of sealed jobs (see `job`)."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cloister.api.v1.seal_pb2 import JobHeader, SealedJob
from cloister.errors import InvalidRequest
from cloister.seal import framing, hpke, padding
from cloister.seal import job_keys as keys
from cloister.seal.job_ticket import MAX_KNOWN, JobTicket
from cloister.seal.keys import KEY_BYTES, Secret
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

_MAX_SESSIONS: Final = 256


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
