"""What opens the answer to a sealed job, in the process that sealed it or in a later one (see `job`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from google.protobuf.message import DecodeError

from cloister.api.v1.seal_pb2 import KeptJob, OpenedJobResult, SealedJobResult
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import framing, padding
from cloister.seal import job_keys as keys
from cloister.seal.keys import KEY_BYTES, Secret
from cloister.seal.names import check_model
from cloister.seal.receipt import content_hash
from cloister.seal.session_keys import DIGEST_BYTES, PADDED, ZERO_NONCE, milliseconds

MAX_KNOWN: Final = 4
"""Attestation Results that a ticket keeps, some 4 KB each."""
_LATEST_MS: Final = 1 << 47


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


def _malformed() -> InvalidRequest:
    return InvalidRequest("this is no ticket of a job, or not all of one", reason="ticket.malformed")
