"""One ModelStreamInfer: requests in, answers out in the same order, a bounded number under way.

As in Triton's extension, an error is an item and the stream goes on; the item carries the request's id, and, in the
parameters of its empty response, the class and reason of the error, and for want of room when to come again. When the
window is full the gateway stops reading, so HTTP/2 flow control holds the client back; a client that does not read its
answers is cut off after a while.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from grpc.aio import EOF

from cloister.api.oip.inference_pb2 import ModelStreamInferResponse
from cloister.errors import CloisterError, Overloaded, Unauthenticated, Unavailable
from cloister.gateway.admission import Admission
from cloister.gateway.call import Call
from cloister.gateway.timing import TIMING_PARAMETER, server_timing
from cloister.gateway.wire import request_id, stream_answer, with_parameter
from cloister.kit.traces import TraceContext
from cloister.rpc.status import failure_of

WINDOW = 64
"""Requests of one stream that may be without an answer."""
WRITE_S = 20.0
"""How long one answer may wait for a client that does not read."""


class ItemStream(Protocol):
    """Both directions of the client's call, as serialised messages."""

    async def read(self) -> Any:
        """Return the next request, or `grpc.aio.EOF` when the client has closed its half."""

    async def write(self, message: bytes) -> None:
        """Send one answer."""


class AnswerStream:
    """Serves one stream of one tenant.

    Args:
        stream: The client's call.
        admission: Takes each request.
        identity: Whose it is (`PeerIdentity.spiffe_id`).
        timeout_s: The most that one request may take.
        trace: Says which trace a request belongs to, if any.
        timed: Whether each answer says where its time went.
    """

    def __init__(
        self,
        stream: ItemStream,
        admission: Admission,
        identity: str,
        timeout_s: float,
        *,
        trace: Callable[[], TraceContext | None] = lambda: None,
        timed: bool = False,
    ) -> None:
        self._stream = stream
        self._admission = admission
        self._identity = identity
        self._timeout_s = timeout_s
        self._trace = trace
        self._timed = timed
        self._items: deque[Call | bytes] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._expires_at_s = self._ends_at_s = math.inf
        self._writing_since_s = math.inf

    async def run(self, stopping: asyncio.Event, *, expires_in_s: float, ends_in_s: float | None = None) -> None:
        """Serve until the client has closed its half and has every answer.

        Args:
            stopping: Read no further request once this is set.
            expires_in_s: What is left of the client's certificate or token.
            ends_in_s: What is left of the stream's own deadline, if it has one.

        Raises:
            ExceptionGroup: Of `Unavailable`: the client does not read; of `Unauthenticated`: its certificate or its
                token has ended; of `TimeoutError`: its deadline has passed, and it asks still.
            Unavailable: We are going.
        """
        now_s = self._loop.time()
        self._expires_at_s = now_s + expires_in_s
        self._ends_at_s = min(self._expires_at_s, math.inf if ends_in_s is None else now_s + ends_in_s)
        try:
            async with asyncio.TaskGroup() as group:
                guard = group.create_task(self._guard())
                reader = group.create_task(self._read())
                leaver = group.create_task(self._leave(stopping, reader))
                await self._write()
                guard.cancel()
                leaver.cancel()
        finally:
            self._give_up()
        if stopping.is_set():
            raise Unavailable("this gateway is going; open the stream at another one", reason="peer.draining")

    def _give_up(self) -> None:
        """End what is left, and forget it: an error that is not read keeps its traceback, which would keep answers."""
        while self._items:
            item = self._items.popleft()
            if isinstance(item, Call):
                self._admission.end(item)

    async def _leave(self, stopping: asyncio.Event, reader: asyncio.Task[None]) -> None:
        await stopping.wait()
        reader.cancel()
        self._ended = True
        self._changed.set()

    async def _read(self) -> None:
        while (request := await self._stream.read()) is not EOF:
            self._check_time()
            self._items.append(self._begin(request))
            self._changed.set()
            while len(self._items) >= WINDOW:
                self._room.clear()
                await self._room.wait()
        self._ended = True
        self._changed.set()

    def _check_time(self) -> None:
        now_s = self._loop.time()
        if now_s >= self._expires_at_s:
            raise Unauthenticated("the client's certificate or token has expired", reason="identity.expired")
        if now_s >= self._ends_at_s:
            raise TimeoutError("the stream's deadline has passed")

    def _begin(self, request: bytes) -> Call | bytes:
        timeout_s = min(self._timeout_s, self._ends_at_s - self._loop.time())
        try:
            return self._admission.begin(request, self._identity, timeout_s, self._trace())
        except (CloisterError, TimeoutError) as error:
            return failed_item(request_id(request), error)

    async def _write(self) -> None:
        while True:
            while not self._items:
                if self._ended:
                    return
                self._changed.clear()
                await self._changed.wait()
            message = await self._message(self._items[0])
            self._items.popleft()
            self._room.set()
            self._writing_since_s = self._loop.time()
            await self._stream.write(message)
            self._writing_since_s = math.inf

    async def _message(self, item: Call | bytes) -> bytes:
        if isinstance(item, bytes):
            return item
        try:
            answer = await item.answer
        except (CloisterError, TimeoutError) as error:
            message = failed_item(item.route.request_id, error)
        else:
            if self._timed:
                answer = with_parameter(answer, TIMING_PARAMETER, server_timing(item, time.perf_counter()))
            # Nothing is added to a sealed answer: its client believes exactly the envelope that it expects.
            message = stream_answer(answer, final=not item.route.sealed)
        self._admission.end(item)
        return message

    async def _guard(self) -> None:
        """Cut off a client that does not read; looking now and then costs less than a timer for each answer."""
        while True:
            await asyncio.sleep(WRITE_S / 4)
            if self._loop.time() - self._writing_since_s > WRITE_S:
                raise Unavailable("the client does not read its answers", reason="client.stalled")


def failed_item(identifier: str, error: CloisterError | TimeoutError) -> bytes:
    """Return a serialised `ModelStreamInferResponse` that tells of an error."""
    failure = failure_of(error)
    item = ModelStreamInferResponse(error_message=failure.message)
    item.infer_response.id = identifier
    item.infer_response.parameters["cloister-error"].string_param = failure.error
    item.infer_response.parameters["cloister-reason"].string_param = failure.reason
    if isinstance(error, Overloaded) and error.retry_after_s > 0:
        item.infer_response.parameters["cloister-retry-ms"].int64_param = max(1, int(error.retry_after_s * 1000))
    return item.SerializeToString()
