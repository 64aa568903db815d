"""The client's half of sealed sessions (see `session`)."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidTag
from google.protobuf.message import DecodeError

from cloister.api.v1.seal_pb2 import OpenedResponse, Recipient, RequestHeader, SealedRequest, SealedResponse
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import framing, hpke, padding
from cloister.seal import session_keys as keys
from cloister.seal.conversation import ConversationKeys
from cloister.seal.keys import KEY_BYTES, Secret
from cloister.seal.names import check_instance
from cloister.seal.session_keys import (
    MAX_RECIPIENTS,
    PADDED,
    PADDED_VERSION,
    REQUEST_CIPHERTEXT,
    RESPONSE_CIPHERTEXT,
    VERSION,
    milliseconds,
)

_MAX_SEQUENCE = 1 << 32


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A worker that may answer, and its attested HPKE key.

    Attributes:
        seal_version: What its evidence says that it speaks; see `session_keys.SEAL_VERSION`.
    """

    instance: str
    hpke_suite: str
    hpke_public: bytes
    seal_version: int = VERSION


class ClientSessions:
    """The client's half: seals requests, and opens what comes back through `PendingResponse`.

    Args:
        cluster: Trust domain of the workers.
        capacity: How many sessions to hold; the one unused for longest makes room.
    """

    def __init__(self, cluster: str, capacity: int = 1024) -> None:
        self._cluster = cluster
        self._capacity = capacity
        self._sessions: OrderedDict[str, _ClientSession] = OrderedDict()

    def seal(
        self,
        request: bytes,
        *,
        model_name: str,
        model_version: str,
        model_digest: bytes,
        not_after: datetime,
        recipients: Sequence[RecipientKey],
        padded: bool = False,
        conversation: bool = False,
    ) -> tuple[bytes, PendingResponse]:
        """Seal a serialised ModelInferRequest to the workers that may answer it.

        Args:
            request: What only they may read.
            model_name: As in the envelope, as is `model_version`.
            model_version: See `model_name`.
            model_digest: The model that must answer.
            not_after: When the request stops being valid; at most ten minutes ahead.
            recipients: One to sixteen verified workers, each once.
            padded: Whether to hide lengths, of request and answer; not done where a recipient could not strip it.
            conversation: Whether it opens a conversation (`conversation`).

        Returns:
            A serialised SealedRequest, and what opens the answer to it.

        Raises:
            InvalidRequest: A recipient's key is not one, or there are none, too many, or one twice.
        """
        if not 0 < len({recipient.instance for recipient in recipients}) == len(recipients) <= MAX_RECIPIENTS:
            raise InvalidRequest(f"a request is sealed to 1 to {MAX_RECIPIENTS} workers, each once")
        padded = padded and all(recipient.seal_version >= PADDED_VERSION for recipient in recipients)
        header = RequestHeader(
            version=PADDED_VERSION if padded or conversation else VERSION,
            request_id=secrets.token_bytes(keys.REQUEST_ID_BYTES),
            model_name=model_name,
            model_version=model_version,
            model_digest=model_digest,
            not_after_ms=milliseconds(not_after),
            padding=PADDED if padded else 0,
            conversation=conversation,
        )
        raw_header = header.SerializeToString()
        both = secrets.token_bytes(2 * KEY_BYTES)
        sessions = {recipient.instance: self._session(recipient) for recipient in recipients}
        wrapped = [session.wrap(both, raw_header) for session in sessions.values()]
        fields = SealedRequest(header=raw_header, recipients=wrapped).SerializeToString()
        content = padding.pad(request) if padded else request
        head = framing.head(fields, REQUEST_CIPHERTEXT, len(content) + keys.TAG_BYTES)
        ciphertext = keys.request_cipher(both[:KEY_BYTES]).encrypt(keys.ZERO_NONCE, content, head)
        transcript = keys.transcript(raw_header, ciphertext[-keys.TAG_BYTES :])
        pending = PendingResponse(
            self, header.request_id, sessions, seed=both[KEY_BYTES:], transcript=transcript, padded=padded
        )
        return head + ciphertext, pending

    def forget(self, instance: str) -> None:
        """End the session with a worker; the next request to it opens another."""
        self._sessions.pop(instance, None)

    def _session(self, recipient: RecipientKey) -> _ClientSession:
        session = self._sessions.get(recipient.instance)
        if session is not None and session.serves(recipient):
            self._sessions.move_to_end(recipient.instance)
            return session
        session = _ClientSession(self._cluster, recipient)
        self._sessions[recipient.instance] = session
        self._sessions.move_to_end(recipient.instance)
        if len(self._sessions) > self._capacity:
            self._sessions.popitem(last=False)
        return session

    def _forget_session(self, session: _ClientSession) -> None:
        if self._sessions.get(session.recipient.instance) is session:
            del self._sessions[session.recipient.instance]


class PendingResponse:
    """Opens the answer to one request.

    Attributes:
        request_id: As in the header, and in the receipt of the answer.
        padded: Whether the request is padded, and its answer must be.
    """

    __slots__ = ("_owner", "_seed", "_sessions", "_transcript", "padded", "request_id")

    def __init__(
        self,
        owner: ClientSessions,
        request_id: bytes,
        sessions: Mapping[str, _ClientSession],
        *,
        seed: bytes,
        transcript: bytes,
        padded: bool,
    ) -> None:
        self._owner = owner
        self._sessions = sessions
        self._seed = seed
        self._transcript = transcript
        self.padded = padded
        self.request_id = request_id

    def open(self, sealed: bytes) -> OpenedResponse:
        """Open a serialised SealedResponse to this request, from one of the workers it was sealed to.

        Raises:
            SealBroken: Altered, to another request, from somebody else, or not padded as it was asked to be.
        """
        try:
            fields, head, ciphertext = framing.split(sealed, RESPONSE_CIPHERTEXT)
            session = self._sessions[SealedResponse.FromString(fields).instance]
            cipher = keys.response_cipher(self._seed, session.recipient.instance, session.session_id)
            opened = cipher.decrypt(keys.ZERO_NONCE, ciphertext, self._transcript + head)
            response = OpenedResponse.FromString(padding.strip(opened) if self.padded else opened)
        except (KeyError, InvalidTag, DecodeError):
            raise SealBroken from None
        if response.WhichOneof("outcome") is None:
            raise SealBroken
        session.answered = True
        return response

    def conversation_keys(self, instance: str) -> ConversationKeys:
        """The keys of the conversation that this request opens with one of its recipients."""
        session_id = self._sessions[instance].session_id
        return ConversationKeys.derive(self._seed, instance, session_id, self._transcript, padded=self.padded)

    def forget(self, instance: str) -> None:
        """End the session this request used with a worker that says `session.unknown`; a newer one stays."""
        if instance in self._sessions:
            self._owner._forget_session(self._sessions[instance])


class _ClientSession:
    """One secret shared with one worker; makes its own wrapping nonces by counting."""

    __slots__ = ("_key_id", "_next", "_opening", "_wrapping", "answered", "recipient", "session_id")

    def __init__(self, cluster: str, recipient: RecipientKey) -> None:
        check_instance(recipient.instance)
        secret = Secret.random()
        self.recipient = recipient
        self.session_id = secrets.token_bytes(keys.SESSION_ID_BYTES)
        self.answered = False
        info = keys.opening_info(cluster, recipient.instance, self.session_id)
        self._opening = hpke.seal(recipient.hpke_suite, recipient.hpke_public, secret.reveal(), info)
        named = recipient.seal_version > VERSION
        self._key_id = hpke.key_id(recipient.hpke_suite, recipient.hpke_public) if named else b""
        self._wrapping = keys.wrapping_cipher(secret, self.session_id)
        self._next = 0

    def serves(self, recipient: RecipientKey) -> bool:
        return self.recipient == recipient and self._next < _MAX_SEQUENCE

    def wrap(self, both: bytes, header: bytes) -> Recipient:
        sequence, self._next = self._next, self._next + 1
        aad = keys.wrapping_aad(header, self.recipient.instance, self.session_id)
        return Recipient(
            instance=self.recipient.instance,
            session_id=self.session_id,
            sequence=sequence,
            wrapped_keys=self._wrapping.encrypt(keys.wrapping_nonce(sequence), both, aad),
            opening=b"" if self.answered else self._opening,
            key_id=b"" if self.answered else self._key_id,
        )
