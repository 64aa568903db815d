"""One request, from the question to an answer that is believed: who is asked, how it goes there, what comes back."""

from __future__ import annotations

import time
from dataclasses import replace

from cloister.client.answer import Answer
from cloister.client.bundle import TrustBundle
from cloister.client.carriers import Aside, Carrier
from cloister.client.conversation import Means
from cloister.client.conversations import Conversations, Conversing
from cloister.client.exchange import sealed_to, target
from cloister.client.question import Question
from cloister.client.receipts import check_issued
from cloister.client.roster import Roster
from cloister.client.streams import Streams
from cloister.client.tasks import Tasks
from cloister.client.timing import Timing
from cloister.errors import CloisterError, InvalidRequest, NotReady, Unavailable
from cloister.oip.tensors import decode_response
from cloister.rpc.channel import Peer
from cloister.seal.session import ClientSessions


class Asker:
    """Asks once, and remembers what helps the next time: who serves a model, and the sessions with them.

    Args:
        gateway: Asked who serves a model.
        trust: Whom to believe.
        padded: Whether to hide the lengths of sealed requests and answers.
    """

    def __init__(self, gateway: Peer, trust: TrustBundle, *, padded: bool) -> None:
        self._padded = padded
        self.roster = Roster(gateway, trust)
        self._sessions = ClientSessions(trust.cluster)

    def conversing(self, streams: Streams, tasks: Tasks, *, timed: bool) -> Conversing:
        """Streams whose sealed requests go in conversations."""
        means = Means(streams, self._sessions, self.roster, self._padded)
        return Conversing(streams, Conversations(means, tasks), timed=timed)

    async def ask(self, question: Question, carrier: Carrier, left_s: float) -> Answer:
        """One attempt; raises what `Client.infer` says."""
        timed = carrier.timed if isinstance(carrier, Conversing) else question.timing
        if not (timed or question.traceparent):
            return await self._answer(question, carrier, left_s, None)
        aside, began_s = Aside(timed, question.traceparent), time.perf_counter()
        answer = await self._answer(question, carrier, left_s, aside)
        told = Timing.parse(aside.timing, time.perf_counter() - began_s) if aside.timing else None
        return replace(answer, timing=told)

    async def _answer(self, question: Question, carrier: Carrier, left_s: float, aside: Aside | None) -> Answer:
        if not question.sealed:
            return await _ask_plain(question, carrier, left_s, aside)
        try:
            return await self._ask_sealed(question, carrier, left_s, aside)
        except (Unavailable, NotReady):
            # Whoever was asked has gone, or serves something else by now.
            self.roster.forget(question.model, question.version)
            raise

    async def _ask_sealed(self, question: Question, carrier: Carrier, left_s: float, aside: Aside | None) -> Answer:
        serving = await self.roster.serving(question.model, question.version, left_s)
        aim = target(question.model, serving.believed, version=question.version, digest=question.digest)
        request = question.request(aim.model_version).SerializeToString()
        if isinstance(carrier, Conversing):
            until_s = time.monotonic() + left_s
            conversation = await carrier.conversations.one(aim, left_s)
            left_s = max(until_s - time.monotonic(), 0.001)
            if conversation is not None:
                return await conversation.ask(request, left_s, aside)
        sent = sealed_to(aim, request, self._sessions, left_s, padded=self._padded)
        try:
            opened = sent.opened(await carrier.carry(sent.envelope, left_s, aside))
        except CloisterError as error:
            if error.reason == "session.unknown":
                sent.forget_sessions()
            raise
        worker = opened.worker
        if opened.body.ear_id != worker.result.ear_id:
            ear_id = opened.body.ear_id
            worker = await self.roster.with_result(worker, ear_id, question.model, question.version, left_s)
        check_issued(opened.body, worker.result)
        return sent.answer(opened, worker)


async def _ask_plain(question: Question, carrier: Carrier, left_s: float, aside: Aside | None) -> Answer:
    if question.digest is not None:
        raise InvalidRequest("nobody proves the digest of the model that answers a plain request; ask sealed")
    request = question.request(question.version)
    response = await carrier.carry(request, left_s, aside)
    return Answer(
        outputs=decode_response(response),
        model_name=response.model_name,
        model_version=response.model_version,
        carried=request,
    )
