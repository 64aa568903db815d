"""The two ways an OIP request reaches the gateway: a call of its own, or one message on a stream.

The stream's answers come in the order of its requests. An error is an item like any other, with the request's id, and
class and reason in the parameters of its empty response, and when to come again if there was no room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from grpc.aio import EOF

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from cloister.api.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from cloister.api.v1.worker_pb2 import Failure
from cloister.client.tasks import task_group
from cloister.errors import CloisterError, InvalidRequest, Unavailable
from cloister.rpc.channel import Peer
from cloister.rpc.status import from_failure, told_to_wait

ERROR_PARAMETER: Final = "cloister-error"
REASON_PARAMETER: Final = "cloister-reason"
RETRY_PARAMETER: Final = "cloister-retry-ms"
TIMING_PARAMETER: Final = "cloister-timing"
SERVER_TIMING: Final = "server-timing"
TRACEPARENT: Final = "traceparent"


@dataclass(slots=True)
class Aside:
    """What goes beside a request, in clear, and what comes beside its answer.

    Attributes:
        timed: Whether to ask where the time goes.
        traceparent: The trace that it belongs to (W3C), or empty.
        timing: The Server-Timing line that came; empty for none.
    """

    timed: bool = False
    traceparent: str = ""
    timing: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Of the call."""
        asked = ((SERVER_TIMING, "1" if self.timed else ""), (TRACEPARENT, self.traceparent))
        return tuple((key, value) for key, value in asked if value)

    def hear(self, trailers: Iterable[tuple[str, str | bytes]]) -> None:
        """Note the timing in the metadata after an answer."""
        for key, value in trailers:
            if key == SERVER_TIMING and isinstance(value, str):
                self.timing = value


class Carrier(Protocol):
    """Takes a request to the gateway and brings its answer."""

    async def carry(
        self, request: ModelInferRequest, timeout_s: float, aside: Aside | None = None
    ) -> ModelInferResponse:
        """Raises CloisterError or TimeoutError."""
        ...


class Unary:
    """Each request is a call."""

    def __init__(self, gateway: Peer) -> None:
        self._stub = gateway.stub(GRPCInferenceServiceStub)

    async def carry(
        self, request: ModelInferRequest, timeout_s: float, aside: Aside | None = None
    ) -> ModelInferResponse:
        """See `Carrier`."""
        beside: dict[str, Any] = {"metadata": aside.metadata, "trailers": aside.hear} if aside is not None else {}
        answer: ModelInferResponse = await self._stub.ModelInfer(request, timeout=timeout_s, **beside)
        return answer


class Stream:
    """All requests share one ModelStreamInfer; see `opened`."""

    def __init__(self, call: Any, *, timed: bool = False) -> None:
        self._call = call
        self._timed = timed
        self._waiting: deque[asyncio.Future[ModelInferResponse]] = deque()
        # In the order in which they were asked: a worker opens no request that many later ones of its session overtook.
        self._outgoing: asyncio.Queue[tuple[ModelInferRequest, asyncio.Future[ModelInferResponse]]] = asyncio.Queue()
        self._ended: CloisterError | TimeoutError | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, gateway: Peer, timeout_s: float, aside: Aside | None = None) -> AsyncIterator[Stream]:
        """Open a stream that lives for at most `timeout_s`; what goes beside it holds for all its requests."""
        beside: dict[str, Any] = {"metadata": aside.metadata} if aside is not None else {}
        call = gateway.stub(GRPCInferenceServiceStub).ModelStreamInfer(timeout=timeout_s, **beside)
        stream = cls(call, timed=aside is not None and aside.timed)
        async with task_group() as group:
            reader = group.create_task(stream._read())
            writer = group.create_task(stream._write())
            try:
                yield stream
            finally:
                # One task writes: a caller that is cancelled in the middle of a write would end the stream for all.
                writer.cancel()
                reader.cancel()
                stream._call.cancel()

    @property
    def ended(self) -> bool:
        """Whether it carries nothing any more."""
        return self._ended is not None

    async def carry(
        self, request: ModelInferRequest, timeout_s: float, aside: Aside | None = None
    ) -> ModelInferResponse:
        """See `Carrier`."""
        answer: asyncio.Future[ModelInferResponse] = asyncio.get_running_loop().create_future()
        self._outgoing.put_nowait((request, answer))  # bounded by how many ask
        async with asyncio.timeout(timeout_s):
            response = await answer
        if self._timed and TIMING_PARAMETER in response.parameters:
            if aside is not None:
                aside.timing = response.parameters[TIMING_PARAMETER].string_param
            # An envelope is compared with the one that it must be, in which nothing is left to who carries it.
            del response.parameters[TIMING_PARAMETER]
        return response

    async def _write(self) -> None:
        while True:
            request, answer = await self._outgoing.get()
            if answer.done():  # its caller has gone
                continue
            if self._ended is not None:
                answer.set_exception(self._ended)
            else:
                self._waiting.append(answer)
                try:
                    await self._call.write(request)
                except (CloisterError, TimeoutError) as error:
                    self._end(error)

    async def _read(self) -> None:
        try:
            while (item := await self._call.read()) is not EOF:
                self._deliver(item)
            self._end(Unavailable("the gateway ended the stream", reason="stream.ended"))
        except (CloisterError, TimeoutError) as error:
            self._end(error)

    def _deliver(self, item: ModelStreamInferResponse) -> None:
        if not self._waiting:
            raise InvalidRequest("the gateway answers what nobody asked", reason="stream.unexpected")
        answer = self._waiting.popleft()
        if answer.done():  # its caller has gone
            return
        if item.error_message:
            answer.set_exception(_error_in(item))
        else:
            answer.set_result(item.infer_response)

    def _end(self, error: CloisterError | TimeoutError) -> None:
        self._ended = self._ended or error
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(self._ended)


def _error_in(item: ModelStreamInferResponse) -> CloisterError | TimeoutError:
    parameters = item.infer_response.parameters
    failure = Failure(
        error=parameters[ERROR_PARAMETER].string_param,
        reason=parameters[REASON_PARAMETER].string_param,
        message=item.error_message,
    )
    return told_to_wait(from_failure(failure), parameters[RETRY_PARAMETER].int64_param / 1000)
