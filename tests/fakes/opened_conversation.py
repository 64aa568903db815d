"""What a client sends to the inside of a worker to open a conversation, and what it makes of the answer."""

from __future__ import annotations

from datetime import timedelta

from cloister.seal import envelope
from cloister.seal.conversation import Subject
from cloister.seal.conversation_client import ClientConversation
from fakes.attested_worker import DIGEST, MODEL, Client, opened

VERSION = "2"
LIFE_S = 300.0


class Opening:
    """An opening to the worker that a client believes.

    Attributes:
        raw: The serialised envelope.
    """

    def __init__(self, client: Client, *, version: str = VERSION, life_s: float = LIFE_S) -> None:
        self._instance = client.recipient.instance
        sealed, self._pending = client.sessions.seal(
            b"",
            model_name=MODEL,
            model_version=version,
            model_digest=DIGEST,
            not_after=client.inside.clock.now() + timedelta(seconds=life_s),
            recipients=[client.recipient],
            conversation=True,
        )
        carried = envelope.build_request(sealed, model_name=MODEL, model_version=version, instances=[self._instance])
        self.raw = carried.SerializeToString()

    def opened(self, response: bytes) -> ClientConversation:
        """The conversation, from the serialised answer."""
        terms = opened(self._pending, response).terms
        assert terms.ear_id
        subject = Subject(self._pending.request_id, self._instance, MODEL, VERSION, DIGEST)
        return ClientConversation(self._pending.conversation_keys(self._instance), subject, terms)
