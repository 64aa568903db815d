"""Which conversation of a stream takes a request: one with each of a few workers, the one with the least to do."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Final

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.client.carriers import Aside
from cloister.client.conversation import Conversation, Means, begin
from cloister.client.exchange import MAX_RECIPIENTS, Target
from cloister.client.streams import Streams
from cloister.client.tasks import Tasks
from cloister.client.trust import VerifiedWorker
from cloister.errors import CloisterError, Overloaded, SealBroken

OPEN_S: Final = 10.0
SEAL_VERSION: Final = 2
"""What a worker must speak; with one that does not, requests are sealed one by one."""
PAUSE_S: Final = 1.0
"""How long a worker is left alone that opened none, while others do."""
Key = tuple[str, str, bytes]


@dataclass(slots=True)
class _Party:
    """Those about one model: by instance, open ones and ones that are being opened, and who is left alone till when."""

    open: dict[str, Conversation] = field(default_factory=dict)
    opening: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    later_s: dict[str, float] = field(default_factory=dict)
    error: CloisterError | TimeoutError | None = None


class Conversations:
    """The conversations of one stream.

    Args:
        means: What they share.
        tasks: Where they open and end.
    """

    def __init__(self, means: Means, tasks: Tasks) -> None:
        self._means = means
        self._tasks = tasks
        self._parties: dict[Key, _Party] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._broken = self._abandoned = False

    async def one(self, aim: Target, timeout_s: float) -> Conversation | None:
        """The one to ask, opened if need be; None where no worker has room for conversations.

        Raises:
            CloisterError, TimeoutError: None can be opened.
        """
        if self._abandoned:
            raise RuntimeError("the stream's block has ended")
        key = (aim.model_name, aim.model_version, aim.model_digest)
        party = self._parties.get(key)
        if party is None:
            party = self._parties[key] = _Party()
        best = self._least_busy(party)
        if len(party.open) + len(party.opening) < min(len(aim.workers), MAX_RECIPIENTS):
            self._open_more(party, aim)
        if best is None:
            best = await self._first(party, timeout_s)
        return best

    async def conclude(self) -> None:
        """End all of them, so that every answer so far has its receipt, unless its worker was lost.

        Raises:
            SealBroken: An end that came since it was last asked for was not the worker's own.
        """
        for party in self._parties.values():
            for conversation in party.open.values():
                self._end(conversation)
            party.open.clear()  # who waits for one to be opened has the party still
            for task in party.opening.values():
                task.cancel()
        self._parties.clear()
        if self._ending:
            await asyncio.wait(self._ending)
        broken, self._broken = self._broken, False
        if broken:
            raise SealBroken

    def abandon(self) -> None:
        """Let all of them be, for good."""
        self._abandoned = True
        opening = [task for party in self._parties.values() for task in party.opening.values()]
        for task in (*opening, *self._ending):
            task.cancel()
        self._parties.clear()

    def _least_busy(self, party: _Party) -> Conversation | None:
        best: Conversation | None = None
        for instance, conversation in list(party.open.items()):
            if not conversation.takes_more:
                del party.open[instance]
                self._end(conversation)
            elif best is None or conversation.under_way < best.under_way:
                best = conversation
        return best

    def _open_more(self, party: _Party, aim: Target) -> None:
        now_s = time.monotonic()
        free = [
            worker
            for worker in aim.workers
            if worker.recipient.seal_version >= SEAL_VERSION
            and worker.instance not in party.open
            and worker.instance not in party.opening
            and party.later_s.get(worker.instance, 0.0) <= now_s
        ]
        room = min(len(aim.workers), MAX_RECIPIENTS) - len(party.open) - len(party.opening)
        for worker in random.sample(free, min(room, len(free))):
            party.opening[worker.instance] = self._tasks.spawn(self._begin(party, aim, worker))

    async def _begin(self, party: _Party, aim: Target, worker: VerifiedWorker) -> None:
        try:
            party.open[worker.instance] = await begin(aim, worker, self._means, OPEN_S)
        except (CloisterError, TimeoutError) as error:  # whoever waits for it is told
            party.error = error
            party.later_s[worker.instance] = time.monotonic() + PAUSE_S
        finally:
            party.opening.pop(worker.instance, None)

    async def _first(self, party: _Party, timeout_s: float) -> Conversation | None:
        """The first to be open of those that are being opened."""
        until_s = time.monotonic() + timeout_s
        while party.opening:
            left_s = until_s - time.monotonic()
            done, _ = await asyncio.wait(party.opening.values(), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise TimeoutError
            best = self._least_busy(party)
            if best is not None:
                return best
        error, party.error = party.error, None
        if error is None or isinstance(error, Overloaded):
            return None
        raise error

    def _end(self, conversation: Conversation) -> None:
        task = self._tasks.spawn(self._ended(conversation))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _ended(self, conversation: Conversation) -> None:
        told = conversation.error is not None
        await conversation.end()
        self._broken |= not told and isinstance(conversation.error, SealBroken)


class Conversing:
    """A stream that carries plain requests as they are, and sealed ones in conversations.

    Args:
        streams: What carries both.
        conversations: On it.
        timed: Whether the stream asks where the time of each request goes.

    Attributes:
        conversations: As given.
        timed: As given.
    """

    def __init__(self, streams: Streams, conversations: Conversations, *, timed: bool = False) -> None:
        self.conversations = conversations
        self.timed = timed
        self._streams = streams

    async def carry(
        self, request: ModelInferRequest, timeout_s: float, aside: Aside | None = None
    ) -> ModelInferResponse:
        """See `carriers.Carrier`."""
        return await self._streams.carry(request, timeout_s, aside)

    def close(self) -> None:
        """End the stream; answers that no worker has signed for by now get no receipt."""
        self.conversations.abandon()
        self._streams.close()
