"""The conversations of this worker: opened under its clock, about a model it serves, ended with its signature."""

from __future__ import annotations

import asyncio
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1.seal_pb2 import ConversationTerms, OpenedResponse
from cloister.errors import NotFound, NotReady
from cloister.seal.conversation import MOST_REQUESTS, ConversationKeys, Subject
from cloister.seal.conversation_worker import OpenedChunk, WorkerConversation, WorkerConversations
from cloister.seal.session import OpenedRequest
from cloister.worker.clock import MeshClock
from cloister.worker.served import ServedModel, ServedModels

FORGET_S: Final = 30.0
"""How often those are looked for that nobody has ended."""


class Conversations:
    """What `Answers` needs of them.

    Args:
        served: The models.
        clock: Says when a conversation is over.
        receipt_key: Signs its end.
        instance: Of this worker.
    """

    def __init__(
        self,
        served: ServedModels,
        clock: MeshClock,
        receipt_key: Ed25519PrivateKey,
        *,
        instance: str,
    ) -> None:
        self._served = served
        self._clock = clock
        self._receipt_key = receipt_key
        self._instance = instance
        self._held = WorkerConversations()

    def begin(self, sealed: OpenedRequest, keys: ConversationKeys, model: ServedModel) -> OpenedResponse:
        """Open the conversation that a request asks for; its answer, which holds the terms.

        Raises:
            Overloaded, SealBroken: As `WorkerConversations.add`.
        """
        terms = ConversationTerms(policy_digest=model.policy_digest, ear_id=sealed.ear_id, most_requests=MOST_REQUESTS)
        subject = Subject(sealed.request_id, self._instance, model.name, model.version, model.digest)
        now_s = self._clock.counter_s()
        ends_at_s = now_s + self._clock.lasts_s(sealed.not_after)
        conversation = WorkerConversation(keys, subject, terms, session_id=sealed.session_id, ends_at_s=ends_at_s)
        self._held.add(conversation, now_s)
        return OpenedResponse(terms=terms)

    def __len__(self) -> int:
        return len(self._held)

    async def forgetting(self) -> None:
        """Drop the keys of conversations that are over and that nobody has ended, for as long as the worker runs."""
        while True:
            await asyncio.sleep(FORGET_S)
            self._held.forget_ended(self._clock.counter_s())

    def open(self, raw: bytes) -> OpenedChunk | None:
        """See `WorkerConversations.open`."""
        return self._held.open(raw, self._clock.counter_s())

    def open_parsed(self, request: ModelInferRequest) -> OpenedChunk | None:
        """See `WorkerConversations.open_parsed`."""
        return self._held.open_parsed(request, self._clock.counter_s())

    def model_of(self, chunk: OpenedChunk) -> ServedModel:
        """The model that its conversation is about.

        Raises:
            NotReady: It is served no longer, or not under the same policy (reason `model.changed`).
        """
        conversation = chunk.conversation
        subject = conversation.subject
        try:
            model = self._served.find(subject.model_name, subject.model_version)
        except NotFound:
            raise _changed() from None
        if (model.digest, model.policy_digest) != (subject.model_digest, conversation.terms.policy_digest):
            raise _changed()
        return model

    def end(self, chunk: OpenedChunk) -> OpenedResponse:
        """The answer to a client's last chunk, as `WorkerConversation.end`."""
        return self._held.end(chunk, self._receipt_key)


def _changed() -> NotReady:
    return NotReady("this worker does not serve the model that the request is for", reason="model.changed")
