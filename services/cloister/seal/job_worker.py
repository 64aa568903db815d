"""The worker's half of sealed jobs (see `job`)."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from google.protobuf.message import DecodeError

from cloister.api.v1.seal_pb2 import JobHeader, OpenedJobResult, SealedJob, SealedJobResult
from cloister.errors import InvalidRequest, NotReady, SealBroken
from cloister.seal import framing, hpke, padding
from cloister.seal import job_keys as keys
from cloister.seal.keys import KEY_BYTES, Secret
from cloister.seal.receipt import content_hash
from cloister.seal.session_keys import (
    DIGEST_BYTES,
    PADDED,
    SESSION_ID_BYTES,
    TAG_BYTES,
    WRAPPED_BYTES,
    ZERO_NONCE,
    milliseconds,
    request_cipher,
    transcript,
)

MAX_HEADER_BYTES: Final = 1024
CAPACITY: Final = 4096
_LATEST_MS: Final = 1 << 47

PairOf = Callable[[str, bytes], hpke.KeyPair | None]
"""The epoch key of a model's name with this key id, while this worker has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedJob:
    """A job in clear, as the client sealed it.

    Attributes:
        request: Serialised ModelInferRequest.
        request_sha256: What a receipt says of it.
        job_id: 16 bytes, chosen by the client.
        model_version: A number if no other version may answer; else a label, or empty.
        model_digest: Empty if each may that the epoch's policy lets have the key.
        party: Whose it is: what only jobs of one client and epoch have in common, 32 bytes.
        known_results: `jti` of Attestation Results that the client has.
    """

    request: bytes = field(repr=False)
    request_sha256: bytes = field(repr=False)
    job_id: bytes
    model_name: str
    model_version: str
    model_digest: bytes
    not_after: datetime
    epoch: int
    party: bytes
    known_results: tuple[str, ...] = ()
    _padded: bool
    _seed: Secret = field(repr=False)
    _transcript: bytes = field(repr=False)

    def respond(self, result: OpenedJobResult) -> bytes:
        """Seal an answer, under keys that no other answer has; returns a serialised SealedJobResult."""
        plaintext = result.SerializeToString()
        if self._padded:
            plaintext = padding.pad(plaintext)
        salt = secrets.token_bytes(keys.SALT_BYTES)
        fields = SealedJobResult(salt=salt).SerializeToString()
        head = framing.head(fields, keys.ANSWER_CIPHERTEXT, len(plaintext) + TAG_BYTES)
        cipher = keys.answer_cipher(self._seed.reveal(), salt)
        return head + cipher.encrypt(ZERO_NONCE, plaintext, self._transcript + head)


@dataclass(frozen=True, slots=True)
class _Session:
    """One client's secret of one epoch."""

    wrapping: AESGCMSIV
    party: bytes


_Name = tuple[str, int, bytes, bytes]


class JobOpener:
    """Opens jobs, any number of times, while their epoch's key is here.

    Args:
        pair_of: Finds it.
        cluster: Trust domain.
        capacity: How many clients' secrets are held of each key, so that each costs HPKE once; the one unused for
            longest makes room.
    """

    def __init__(self, pair_of: PairOf, cluster: str, capacity: int = CAPACITY) -> None:
        self._pair_of = pair_of
        self._cluster = cluster
        self._capacity = capacity
        self._sessions: dict[bytes, OrderedDict[_Name, _Session]] = {}  # by key id

    def __len__(self) -> int:
        return sum(map(len, self._sessions.values()))

    def open(self, sealed: bytes, *, now: datetime, digest_of: Callable[[str, str], bytes | None]) -> OpenedJob:
        """Open a serialised SealedJob.

        Args:
            sealed: As it stood in the envelope.
            now: Aware UTC.
            digest_of: The digest of the model that would answer under the header's name and version, if any; asked only
                where the header says which it must be.

        Raises:
            SealBroken: Altered, or sealed to another key or for another purpose.
            NotReady: This worker has not the epoch's key, or no more (reason `epoch.unknown`), or serves another model
                than the client means (`model.changed`). Another worker may do better.
            InvalidRequest: Past its deadline (reason `request.expired`).
        """
        fields, head, ciphertext = framing.split(sealed, keys.JOB_CIPHERTEXT)
        message, header = _parse(fields)
        session, name = self._session(message, header)
        try:
            aad = keys.wrapping_aad(message.header, message.session_id)
            nonce = keys.wrapping_nonce(header.job_id)
            both = session.wrapping.decrypt(nonce, message.wrapped_keys, aad)
            content = request_cipher(both[:KEY_BYTES]).decrypt(ZERO_NONCE, ciphertext, head)
        except InvalidTag:
            raise SealBroken from None
        self._hold(header.key_id, name, session)
        if header.not_after_ms <= milliseconds(now):
            raise InvalidRequest("the job is past its deadline", reason="request.expired")
        if header.model_digest and digest_of(header.model_name, header.model_version) != header.model_digest:
            raise NotReady("this worker does not serve the model that the job is for", reason="model.changed")
        padded = header.padding == PADDED
        request = padding.strip(content) if padded else content
        return OpenedJob(
            request=request,
            request_sha256=content_hash(header.job_id, request),
            job_id=header.job_id,
            model_name=header.model_name,
            model_version=header.model_version,
            model_digest=header.model_digest,
            not_after=datetime.fromtimestamp(header.not_after_ms / 1000, UTC),
            epoch=header.epoch,
            party=session.party,
            known_results=tuple(header.known_results),
            _padded=padded,
            _seed=Secret(both[KEY_BYTES:]),
            _transcript=transcript(message.header, bytes(ciphertext[-TAG_BYTES:])),
        )

    def drop(self, key_id: bytes) -> None:
        """Drop all secrets that came under a key, with the key."""
        self._sessions.pop(key_id, None)

    def _session(self, message: SealedJob, header: JobHeader) -> tuple[_Session, _Name]:
        """The secret that a job came under. Nothing in the header is believed yet: it says which key to try."""
        pair = self._pair_of(header.model_name, header.key_id)
        if pair is None:
            raise NotReady("this worker has not the key of the epoch that the job is sealed to", reason="epoch.unknown")
        # All that an opening is bound to: what is held under a name is what opening it anew would give.
        name = (header.model_name, header.epoch, message.session_id, message.opening)
        held = self._sessions.get(header.key_id)
        known = held.get(name) if held is not None else None
        if known is not None:
            return known, name
        info = keys.opening_info(self._cluster, header.model_name, header.epoch, header.key_id, message.session_id)
        secret = Secret(pair.open(message.opening, info))
        if len(secret) != KEY_BYTES:
            raise SealBroken
        party = hashlib.sha256(message.opening).digest()
        return _Session(keys.wrapping_cipher(secret, message.session_id), party), name

    def _hold(self, key_id: bytes, name: _Name, session: _Session) -> None:
        held = self._sessions.setdefault(key_id, OrderedDict())
        held[name] = session
        held.move_to_end(name)
        if len(held) > self._capacity:
            held.popitem(last=False)


def _parse(fields: bytes) -> tuple[SealedJob, JobHeader]:
    try:
        message = SealedJob.FromString(fields)
        header = JobHeader.FromString(message.header)
    except DecodeError:
        raise SealBroken from None
    lengths = (len(message.session_id), len(message.wrapped_keys), len(header.job_id), len(header.key_id))
    if lengths != (SESSION_ID_BYTES, WRAPPED_BYTES, keys.JOB_ID_BYTES, hpke.KEY_ID_BYTES):
        raise SealBroken
    if len(message.header) > MAX_HEADER_BYTES or len(header.model_digest) not in (0, DIGEST_BYTES):
        raise SealBroken
    if header.version != keys.VERSION or header.padding not in (0, PADDED) or header.not_after_ms >= _LATEST_MS:
        raise SealBroken
    return message, header
