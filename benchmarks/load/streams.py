"""All requests as messages of one call: as they are, or each sealed in a conversation and nothing else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
from benchmarks.load.questions import Arrays

from cloister import Client
from cloister.api.oip.inference_pb2 import ModelInferResponse, ModelStreamInferResponse
from cloister.client.carriers import answer_in
from cloister.oip.tensors import decode_response, parse_response
from cloister.seal import envelope
from cloister.seal.conversation import Subject
from cloister.seal.conversation_client import ClientConversation
from cloister.seal.session import ClientSessions

SERVICE = "/inference.GRPCInferenceService"
TIMEOUT_S = 60.0
CONVERSATION_S = 590.0
SERVED_VERSION = "1"
_CODES = {"Overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED, "TimeoutError": grpc.StatusCode.DEADLINE_EXCEEDED}
_ANSWERED = b"\x12"  # first byte of a ModelStreamInferResponse without an error: field 2


class ItemError(RuntimeError):
    """An item of a stream that tells of an error; `code` is the status that a call of its own would have ended with."""

    def __init__(self, item: bytes) -> None:
        told = ModelStreamInferResponse.FromString(item)
        super().__init__(told.error_message)
        kind = told.infer_response.parameters["cloister-error"].string_param
        self.code = _CODES.get(kind, grpc.StatusCode.UNKNOWN)


class Stream:
    """All requests are messages of one call, and answers come in their order."""

    def __init__(self, channel: grpc.aio.Channel, requests: Sequence[bytes]) -> None:
        self._call: Any = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")()
        self._requests = requests
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()

    async def ask(self, number: int) -> bytes:
        """See `Carrier`."""
        return await self.exchange(self._requests[number % len(self._requests)])

    async def exchange(self, request: bytes) -> bytes:
        """Send a message, and wait for its answer; raises ItemError where that is an error."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._outgoing.put_nowait(request)
        answer = await future
        if answer[:1] != _ANSWERED:
            raise ItemError(answer)
        return answer

    def arrays(self, answer: bytes) -> Arrays:
        """See `Carrier`."""
        return decode_response(ModelStreamInferResponse.FromString(answer).infer_response)

    async def write(self) -> None:
        """One writer: gRPC takes one message at a time."""
        while True:
            await self._call.write(await self._outgoing.get())

    async def read(self) -> None:
        """Hand the answers out."""
        while (answer := await self._call.read()) is not grpc.aio.EOF:
            self._waiting.popleft().set_result(answer)
        raise RuntimeError("the server ended the stream")


class SealedStream(Stream):
    """The same, each request sealed in a conversation and each answer opened: what sealing adds, and no more."""

    def __init__(self, channel: grpc.aio.Channel, requests: Sequence[bytes], openings: Openings) -> None:
        super().__init__(channel, requests)
        self._openings = openings
        self._conversation: ClientConversation | None = None
        self._one_opens = asyncio.Lock()

    async def ask(self, number: int) -> bytes:
        """See `Carrier`; the answer in clear."""
        conversation = self._conversation
        if conversation is None or conversation.sent == conversation.most_requests:
            async with self._one_opens:
                if self._conversation is conversation:
                    self._conversation = await self._openings.opened()
            return await self.ask(number)
        request = self._requests[number % len(self._requests)]
        at, carried = conversation.seal(request)
        item = await self.exchange(carried)
        return conversation.open(at, request, answer_in(item) or b"").response

    def arrays(self, answer: bytes) -> Arrays:
        """See `Carrier`."""
        return decode_response(parse_response(answer))


class Openings:
    """Opens conversations with the first worker that this client believes."""

    def __init__(self, client: Client, channel: grpc.aio.Channel, model: str) -> None:
        self._client, self._model = client, model
        self._call: Any = channel.unary_unary(f"{SERVICE}/ModelInfer")
        self._sessions = ClientSessions(client.trust.cluster)

    async def opened(self) -> ClientConversation:
        """Open one."""
        worker = (await self._client.workers(self._model)).believed[0]
        named = {"model_name": self._model, "model_version": worker.model_version}
        sealed, pending = self._sessions.seal(
            b"",
            model_digest=worker.model_digest,
            not_after=datetime.now(UTC) + timedelta(seconds=CONVERSATION_S),
            recipients=[worker.recipient],
            conversation=True,
            padded=True,
            **named,
        )
        carried = envelope.build_request(sealed, instances=[worker.instance], **named)
        answer = ModelInferResponse.FromString(await self._call(carried.SerializeToString(), timeout=TIMEOUT_S))
        terms = pending.open(envelope.sealed_response(answer)).terms
        subject = Subject(pending.request_id, worker.instance, *named.values(), worker.model_digest)
        return ClientConversation(pending.conversation_keys(worker.instance), subject, terms)
