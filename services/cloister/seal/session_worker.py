"""The worker's half of sealed sessions (see `session`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from cloister.api.v1.seal_pb2 import OpenedResponse, Recipient, RequestHeader, SealedRequest, SealedResponse
from cloister.errors import InvalidRequest, NotReady, SealBroken
from cloister.seal import framing, hpke, padding
from cloister.seal import session_keys as keys
from cloister.seal.conversation import ConversationKeys
from cloister.seal.keys import KEY_BYTES
from cloister.seal.names import check_instance
from cloister.seal.session_epochs import Epochs
from cloister.seal.session_keys import (
    MAX_LIFE_MS,
    MAX_RECIPIENTS,
    PADDED,
    PADDED_VERSION,
    REQUEST_CIPHERTEXT,
    RESPONSE_CIPHERTEXT,
    VERSION,
    milliseconds,
)
from cloister.seal.session_table import Session

MAX_HEADER_BYTES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRequest:
    """A request in clear, as the client sealed it.

    Attributes:
        request: Serialised ModelInferRequest.
        request_id: 16 bytes, chosen by the client.
        recipients: Instances that it is sealed to, this one among them.
        session_id: Of the session that it came in.
        ear_id: The Attestation Result that vouches for the key that the session was opened with.
        respond: Seals the one answer: an OpenedResponse to a serialised SealedResponse. Works once.
        conversation: The keys of the conversation that it opens, if it opens one.
    """

    request: bytes = field(repr=False)
    request_id: bytes
    model_name: str
    model_version: str
    model_digest: bytes
    not_after: datetime
    recipients: tuple[str, ...]
    session_id: bytes
    ear_id: str
    respond: Callable[[OpenedResponse], bytes] = field(repr=False)
    conversation: ConversationKeys | None = field(default=None, repr=False)


class WorkerSessions:
    """The worker's half: opens requests, each once.

    Args:
        pair: The first HPKE key pair.
        cluster: Trust domain.
        instance: Of this worker.
        capacity: How many sessions to hold of each key pair.

    Attributes:
        epochs: Its key pairs; what is sealed to any of them opens.
    """

    def __init__(self, pair: hpke.KeyPair, cluster: str, instance: str, capacity: int = 4096) -> None:
        check_instance(instance)
        self._instance = instance
        self.epochs = Epochs(pair, cluster, instance, capacity)

    def open(self, sealed: bytes, *, now: datetime, digest_of: Callable[[str, str], bytes | None]) -> OpenedRequest:
        """Open a serialised SealedRequest.

        Args:
            sealed: As it stood in the envelope.
            now: Aware UTC.
            digest_of: The digest of the model that is served under a name and version, if any.

        Raises:
            SealBroken: Altered, not for this worker, or opened before (then with the reason `request.replayed`).
            NotReady: The session is not known and no opening came along (reason `session.unknown`), the key that it
                names is dropped (`seal.stale`), or this worker serves another model than the client means
                (`model.changed`).
            InvalidRequest: Past its deadline (reason `request.expired`), or valid for too long (`request.too_long`).
            Unavailable: The key is not attested yet (`key.unsettled`).
            Overloaded: Too many sessions were opened lately.
        """
        fields, head, ciphertext = framing.split(sealed, REQUEST_CIPHERTEXT)
        recipient, raw_header, instances = self._parse(fields)
        now_ms = milliseconds(now)
        known = self.epochs.find(recipient)
        epoch, session = known if known is not None else self.epochs.open(recipient, now_ms)
        both = self._unwrap(session, recipient, raw_header)
        header = _read_header(raw_header)
        session.check(recipient.sequence)
        _check_time(header.not_after_ms, now_ms, epoch.table.floor_ms)
        if digest_of(header.model_name, header.model_version) != header.model_digest:
            raise NotReady("this worker does not serve the model that the request is for", reason="model.changed")
        try:
            content = keys.request_cipher(both[:KEY_BYTES]).decrypt(keys.ZERO_NONCE, ciphertext, head)
        except InvalidTag:
            raise SealBroken from None
        padded = header.padding == PADDED
        request = padding.strip(content) if padded else content
        session.mark(recipient.sequence, header.not_after_ms)
        if known is None:
            epoch.table.add(recipient.session_id, session)
        transcript = keys.transcript(raw_header, bytes(ciphertext[-keys.TAG_BYTES :]))
        cipher = keys.response_cipher(both[KEY_BYTES:], self._instance, recipient.session_id)
        return OpenedRequest(
            request=request,
            request_id=header.request_id,
            model_name=header.model_name,
            model_version=header.model_version,
            model_digest=header.model_digest,
            not_after=datetime.fromtimestamp(header.not_after_ms / 1000, UTC),
            recipients=instances,
            session_id=recipient.session_id,
            ear_id=epoch.ear_id,
            respond=_Answer(self._instance, cipher, transcript, padded=padded).seal,
            conversation=self._conversation(header, instances, both[KEY_BYTES:], recipient.session_id, transcript),
        )

    def _conversation(
        self, header: RequestHeader, instances: Sequence[str], seed: bytes, session_id: bytes, transcript: bytes
    ) -> ConversationKeys | None:
        if not header.conversation:
            return None
        if len(instances) != 1 or not header.model_version:
            raise SealBroken  # one worker, one version
        padded = header.padding == PADDED
        return ConversationKeys.derive(seed, self._instance, session_id, transcript, padded=padded)

    def _parse(self, fields: bytes) -> tuple[Recipient, bytes, tuple[str, ...]]:
        try:
            message = SealedRequest.FromString(fields)
        except DecodeError:
            raise SealBroken from None
        ours = [recipient for recipient in message.recipients if recipient.instance == self._instance]
        if len(ours) != 1 or len(message.recipients) > MAX_RECIPIENTS or len(message.header) > MAX_HEADER_BYTES:
            raise SealBroken
        lengths = (len(ours[0].session_id), len(ours[0].wrapped_keys))
        if lengths != (keys.SESSION_ID_BYTES, keys.WRAPPED_BYTES):
            raise SealBroken
        return ours[0], message.header, tuple(recipient.instance for recipient in message.recipients)

    def _unwrap(self, session: Session, recipient: Recipient, raw_header: bytes) -> bytes:
        aad = keys.wrapping_aad(raw_header, self._instance, recipient.session_id)
        try:
            return session.wrapping.decrypt(keys.wrapping_nonce(recipient.sequence), recipient.wrapped_keys, aad)
        except InvalidTag:
            raise SealBroken from None


class _Answer:
    """Seals the one answer to a request."""

    __slots__ = ("_cipher", "_instance", "_padded", "_transcript")

    def __init__(self, instance: str, cipher: AESGCM, transcript: bytes, *, padded: bool) -> None:
        self._instance = instance
        self._padded = padded
        self._cipher: AESGCM | None = cipher
        self._transcript = transcript

    def seal(self, response: OpenedResponse) -> bytes:
        cipher, self._cipher = self._cipher, None
        if cipher is None:
            raise RuntimeError("a request is answered once")
        plaintext = response.SerializeToString()
        if self._padded:
            plaintext = padding.pad(plaintext)
        fields = SealedResponse(instance=self._instance).SerializeToString()
        head = framing.head(fields, RESPONSE_CIPHERTEXT, len(plaintext) + keys.TAG_BYTES)
        return head + cipher.encrypt(keys.ZERO_NONCE, plaintext, self._transcript + head)


def _check_time(not_after_ms: int, now_ms: int, floor_ms: int) -> None:
    if not_after_ms <= max(now_ms, floor_ms):
        raise InvalidRequest("the request is past its deadline", reason="request.expired")
    if not_after_ms > now_ms + MAX_LIFE_MS:
        raise InvalidRequest("the request is valid for longer than ten minutes", reason="request.too_long")


def _read_header(raw: bytes) -> RequestHeader:
    try:
        header = RequestHeader.FromString(raw)
    except DecodeError:
        raise SealBroken from None
    lengths = (len(header.request_id), len(header.model_digest))
    known = (header.version, header.padding) in ((VERSION, 0), (PADDED_VERSION, 0), (PADDED_VERSION, PADDED))
    known = known and (header.version == PADDED_VERSION or not header.conversation)
    if not known or lengths != (keys.REQUEST_ID_BYTES, keys.DIGEST_BYTES):
        raise SealBroken
    return header
