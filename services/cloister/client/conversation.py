"""One conversation: requests to one verified worker over a stream, and the end that proves its answers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from cloister.api.v1.seal_pb2 import OpenedResponse, ReceiptBundle
from cloister.client.answer import Answer
from cloister.client.attempts import attempts
from cloister.client.carriers import Aside, Exchange
from cloister.client.exchange import MAX_LIFE_S, Target
from cloister.client.receipts import believed_ms, untimely
from cloister.client.roster import Roster
from cloister.client.trust import VerifiedWorker
from cloister.errors import CloisterError, NotReady, SealBroken, Unavailable
from cloister.oip.tensors import decode_response, parse_response
from cloister.rpc.status import from_failure
from cloister.seal import envelope
from cloister.seal.conversation import Subject
from cloister.seal.conversation_client import ClientConversation
from cloister.seal.session import ClientSessions

ASKED_S: Final = 60.0
"""After this long a conversation is asked nothing more and ends, so that receipts come within about a minute."""
MOST_REQUESTS: Final = 1024
"""Likewise; what is lost with a worker is the receipts of no more answers than these."""
END_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Means:
    """What conversations of one stream share.

    Attributes:
        padded: Whether to hide lengths, where the workers can.
    """

    stream: Exchange
    sessions: ClientSessions
    roster: Roster
    padded: bool


class Conversation:
    """See the module.

    Attributes:
        worker: Who answers, with the Attestation Result that the receipts will name.
        under_way: Requests without an answer.
        error: Why there will be no receipts: lost with the worker, or broken.
    """

    def __init__(self, sealed: ClientConversation, aim: Target, worker: VerifiedWorker, stream: Exchange) -> None:
        self.worker = worker
        self.under_way = 0
        self._sealed = sealed
        self._aim = aim
        self._stream = stream
        self._believed_ms = believed_ms(worker.result)
        self._asked_until_s = time.monotonic() + ASKED_S
        self._idle = asyncio.Event()
        self._stopped = False
        self.error: CloisterError | None = None

    @property
    def takes_more(self) -> bool:
        """Whether it may be asked something more."""
        return (
            not self._stopped
            and self._sealed.sent < min(MOST_REQUESTS, self._sealed.most_requests)
            and time.monotonic() < self._asked_until_s
        )

    async def ask(self, request: bytes, timeout_s: float, aside: Aside | None) -> Answer:
        """Ask with a serialised ModelInferRequest.

        Raises:
            SealBroken: What came is not the worker's answer to this request; the conversation is over.
            EvidenceRejected: Its receipt would be of a time at which nothing vouched for the worker's key.
            CloisterError: What worker or gateway answered in place of outputs.
        """
        at, carried = self._sealed.seal(request)
        self.under_way += 1
        try:
            answer = await self._stream.exchange(carried, timeout_s, aside)
            opened = self._sealed.open(at, request, answer)
        except SealBroken as error:
            self._stopped, self.error = True, error
            raise
        except (NotReady, Unavailable):  # the worker, or the model on it
            self._stopped = True
            raise
        finally:
            self.under_way -= 1
            if not self.under_way:
                self._idle.set()
        if opened.WhichOneof("outcome") == "failure":
            raise from_failure(opened.failure)
        if opened.issued_at_ms not in self._believed_ms:
            raise untimely()
        return Answer(
            outputs=decode_response(parse_response(opened.response)),
            model_name=self._aim.model_name,
            model_version=self._aim.model_version,
            carried=carried,
            worker=self.worker,
            proof=partial(self._proof, at, request, opened),
        )

    async def end(self) -> None:
        """Wait for the answers that are still to come, and have the worker sign for all of them.

        Raises nothing: where receipts cannot be had, `error` says why, and so does each of the answers.
        """
        self._stopped = True
        while self.under_way:
            self._idle.clear()
            await self._idle.wait()
        if self.error is not None:
            return
        at, carried = self._sealed.close()
        try:
            answer = await attempts(partial(self._ended, carried), END_S)
            self._sealed.finish(at, answer, self.worker.result.receipt_key)
        except SealBroken as error:
            self.error = error
        except (CloisterError, TimeoutError):
            self.error = _lost()

    async def _ended(self, carried: bytes, left_s: float) -> bytes:
        """The answer to the last chunk; of errors only a want of room is worth another attempt."""
        try:
            return await self._stream.exchange(carried, left_s)
        except (NotReady, Unavailable):
            raise _lost() from None

    def _proof(self, at: bytes, request: bytes, opened: OpenedResponse) -> ReceiptBundle:
        if self.error is not None:
            raise self.error
        return ReceiptBundle(
            receipt=self._sealed.receipt(at, request, opened),
            request=request,
            response=opened.response,
            attestation_result=self.worker.token,
        )


def _lost() -> NotReady:
    return NotReady("the worker was lost before it signed for this answer", reason="receipt.lost")


async def begin(aim: Target, worker: VerifiedWorker, means: Means, timeout_s: float) -> Conversation:
    """Open a conversation with one worker.

    Args:
        aim: The model.
        worker: Who is to answer; one of those that serve it.
        means: Of the stream.
        timeout_s: For the opening.

    Raises:
        SealBroken: The answer is not the worker's to this opening.
        CloisterError: What worker or gateway answered.
    """
    now = datetime.now(UTC)
    not_after = min(now + timedelta(seconds=MAX_LIFE_S), worker.result.expires_at)
    sealed, pending = means.sessions.seal(
        b"",
        model_name=aim.model_name,
        model_version=aim.model_version,
        model_digest=aim.model_digest,
        not_after=not_after,
        recipients=[worker.recipient],
        conversation=True,
        padded=means.padded,
    )
    named = {"model_name": aim.model_name, "model_version": aim.model_version}
    carried = envelope.build_request(sealed, instances=[worker.instance], **named)
    try:
        response = await means.stream.carry(carried, timeout_s)
    except CloisterError as error:
        if error.reason == "session.unknown":
            pending.forget(worker.instance)
        raise
    answer = envelope.sealed_response(response)
    if response != envelope.build_response(answer, **named):
        raise SealBroken
    opened = pending.open(answer)
    outcome = opened.WhichOneof("outcome")
    if outcome == "failure":
        raise from_failure(opened.failure)
    if outcome != "terms":
        raise SealBroken
    terms = opened.terms
    if terms.ear_id != worker.result.ear_id:
        worker = await means.roster.with_result(worker, terms.ear_id, aim.model_name, aim.model_version, timeout_s)
    subject = Subject(pending.request_id, worker.instance, aim.model_name, aim.model_version, aim.model_digest)
    keys = pending.conversation_keys(worker.instance)
    return Conversation(ClientConversation(keys, subject, terms), aim, worker, means.stream)
