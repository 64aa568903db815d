"""The two ways an OIP request reaches the gateway: a call of its own, or one message on a stream.

The stream's answers come in the order of its requests. An error is an item like any other, with the request's id, and
class and reason in the parameters of its empty response, and when to come again if there was no room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import grpc.aio
from google.protobuf.message import DecodeError
from grpc.aio import EOF

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from cloister.api.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from cloister.api.v1.worker_pb2 import Failure
from cloister.client.tasks import Tasks
from cloister.errors import CloisterError, InvalidRequest, Unavailable
from cloister.rpc.channel import MAX_MESSAGE_BYTES, Peer
from cloister.rpc.status import from_failure, told_to_wait

ERROR_PARAMETER: Final = "cloister-error"
REASON_PARAMETER: Final = "cloister-reason"
RETRY_PARAMETER: Final = "cloister-retry-ms"
TIMING_PARAMETER: Final = "cloister-timing"
SERVER_TIMING: Final = "server-timing"
TRACEPARENT: Final = "traceparent"
_Message = TypeVar("_Message", ModelInferResponse, ModelStreamInferResponse)


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


class Exchange(Carrier, Protocol):
    """One that takes serialised requests too."""

    async def exchange(self, request: ModelInferRequest | bytes, timeout_s: float, aside: Aside | None = None) -> bytes:
        """Carry a request; the answer is a serialised ModelInferResponse. Raises as `carry`."""
        ...


class StreamStub:
    """ModelStreamInfer, whose answers come as bytes, and which takes requests that are."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.ModelStreamInfer = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=_serialised,
            response_deserializer=bytes,
        )


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
    """All requests share one ModelStreamInfer; see `begun`.

    One task writes, in the order in which requests were asked: a worker opens no request that many later ones of its
    session overtook, and a caller that is cancelled in the middle of a write would end the stream for all.
    """

    def __init__(self, call: Any, *, timed: bool = False) -> None:
        self._call = call
        self._timed = timed
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._outgoing: deque[tuple[ModelInferRequest | bytes, asyncio.Future[bytes]]] = deque()
        self._more = asyncio.Event()
        self._ended: CloisterError | TimeoutError | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    def begun(cls, gateway: Peer, tasks: Tasks, timeout_s: float, aside: Aside | None = None) -> Stream:
        """Begin a stream that lives until it is closed, for at most `timeout_s`.

        Args:
            gateway: To open it at.
            tasks: Get one that reads and one that writes; both end with the stream.
            timeout_s: As above.
            aside: What goes beside the stream holds for all its requests.
        """
        beside: dict[str, Any] = {"metadata": aside.metadata} if aside is not None else {}
        call = gateway.stub(StreamStub).ModelStreamInfer(timeout=timeout_s, **beside)
        stream = cls(call, timed=aside is not None and aside.timed)
        tasks.spawn(stream._read())
        tasks.spawn(stream._write())
        return stream

    @property
    def ended(self) -> bool:
        """Whether it carries nothing any more."""
        return self._ended is not None

    def close(self) -> None:
        """End it; whoever still waits is told `Unavailable`."""
        self._end(Unavailable("the stream was closed", reason="stream.ended"))

    async def carry(
        self, request: ModelInferRequest, timeout_s: float, aside: Aside | None = None
    ) -> ModelInferResponse:
        """See `Carrier`."""
        return _parsed(ModelInferResponse(), await self.exchange(request, timeout_s, aside))

    async def exchange(self, request: ModelInferRequest | bytes, timeout_s: float, aside: Aside | None = None) -> bytes:
        """See `Exchange`; raises InvalidRequest (`message.too_large`) for what no message may hold."""
        if self._ended is not None:
            raise self._ended
        if _size_bytes(request) > MAX_MESSAGE_BYTES:  # gRPC would end the stream for it, and with it all others
            raise InvalidRequest("the request is larger than a message may be", reason="message.too_large")
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._outgoing.append((request, answer))  # bounded by how many ask
        self._more.set()
        expiry = self._loop.call_later(timeout_s, _expire, answer)
        try:
            response = await answer
        finally:
            expiry.cancel()
        return self._without_timing(response, aside) if self._timed else response

    def _without_timing(self, response: bytes, aside: Aside | None) -> bytes:
        """The answer as it was before timing came beside it: it is held against what it must be."""
        message = _parsed(ModelInferResponse(), response)
        if TIMING_PARAMETER not in message.parameters:
            return response
        if aside is not None:
            aside.timing = message.parameters[TIMING_PARAMETER].string_param
        del message.parameters[TIMING_PARAMETER]
        return message.SerializeToString()

    async def _write(self) -> None:
        try:
            while self._ended is None:
                if not self._outgoing:
                    self._more.clear()
                    await self._more.wait()
                    continue
                request, answer = self._outgoing.popleft()
                if not answer.done():  # else its caller has gone
                    self._waiting.append(answer)
                    await self._call.write(request)
        except (CloisterError, TimeoutError) as error:
            self._end(error)

    async def _read(self) -> None:
        try:
            while (item := await self._call.read()) is not EOF:
                self._deliver(item)
        except (CloisterError, TimeoutError) as error:
            self._end(error)
        finally:  # also where the call was cancelled, which gRPC tells as if we had been
            self._end(Unavailable("the gateway ended the stream", reason="stream.ended"))

    def _deliver(self, item: bytes) -> None:
        if not self._waiting:
            raise InvalidRequest("the gateway answers what nobody asked", reason="stream.unexpected")
        found = _found_in(item)  # before anybody is taken off: should it be no answer, it ends the stream for all
        answer = self._waiting.popleft()
        if answer.done():  # its caller has gone
            return
        if isinstance(found, bytes):
            answer.set_result(found)
        else:
            answer.set_exception(found)

    def _end(self, error: CloisterError | TimeoutError) -> None:
        if self._ended is not None:
            return
        self._ended = error
        self._call.cancel()
        self._more.set()
        for answer in (*self._waiting, *(answer for _, answer in self._outgoing)):
            if not answer.done():
                answer.set_exception(error)
        self._waiting.clear()
        self._outgoing.clear()


def _expire(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError("the deadline passed"))


def _found_in(item: bytes) -> bytes | CloisterError | TimeoutError:
    response = answer_in(item)
    if response is not None:
        return response
    message = _parsed(ModelStreamInferResponse(), item)
    return _error_in(message) if message.error_message else message.infer_response.SerializeToString()


def answer_in(item: bytes) -> bytes | None:
    """The serialised `infer_response` of a serialised ModelStreamInferResponse that holds nothing else; else None."""
    if not item.startswith(b"\x12"):
        return None
    length, shift, position = 0, 0, 1
    while position < len(item) and shift < 35:
        byte = item[position]
        length |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return item[position:] if position + length == len(item) else None
    return None


def _parsed(message: _Message, serialised: bytes) -> _Message:
    try:
        message.ParseFromString(serialised)
    except DecodeError:
        raise InvalidRequest("the gateway's answer is not one", reason="stream.malformed") from None
    return message


def _serialised(request: ModelInferRequest | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


def _size_bytes(request: ModelInferRequest | bytes) -> int:
    return len(request) if isinstance(request, bytes) else request.ByteSize()


def _error_in(item: ModelStreamInferResponse) -> CloisterError | TimeoutError:
    parameters = item.infer_response.parameters
    failure = Failure(
        error=parameters[ERROR_PARAMETER].string_param,
        reason=parameters[REASON_PARAMETER].string_param,
        message=item.error_message,
    )
    return told_to_wait(from_failure(failure), parameters[RETRY_PARAMETER].int64_param / 1000)
