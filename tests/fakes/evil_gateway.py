"""A gateway that cheats: it has the gateway's own certificate, and changes what it likes on the way.

It passes every call on to the true gateway, as a client of its own, with full power over each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
WORKERS = "/cloister.api.v1.Gateway/ListWorkers"
Change = Callable[[bytes], bytes]
Cheat = Callable[[bytes], Sequence[bytes]]
"""What goes on in place of one message of a stream: nothing, it, others, several."""
Send = Callable[[bytes], Awaitable[bytes]]
"""Passes a request on to the true gateway, and brings its answer."""
Act = Callable[[bytes, Send], Awaitable[bytes]]
"""What becomes of a call: from its request, to its answer."""


def nothing(message: bytes) -> bytes:
    """An honest gateway's change."""
    return message


def itself(message: bytes) -> Sequence[bytes]:
    """An honest gateway's cheat."""
    return [message]


@dataclass
class EvilGateway(grpc.GenericRpcHandler):
    """Set `request` or `response` by method to change what passes, or `act` for a whole call; `seen` keeps what did.

    Attributes:
        asked: Done to each message of a stream on its way to the mesh.
        answered: Done to each on its way back.
        passed: Messages of streams that came from a client.
    """

    onward: grpc.aio.Channel
    address: str = ""
    request: dict[str, Change] = field(default_factory=dict)
    response: dict[str, Change] = field(default_factory=dict)
    act: dict[str, Act] = field(default_factory=dict)
    seen: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    asked: Cheat = itself
    answered: Cheat = itself
    passed: list[bytes] = field(default_factory=list)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Pass any call on, as bytes."""
        method = str(details.method)
        if method == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)

        async def handle(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            changed = self.request.get(method, nothing)(message)

            async def send(request: bytes) -> bytes:
                passed: bytes = await self.onward.unary_unary(method)(request, timeout=20)
                return passed

            try:
                answer = await (self.act[method](changed, send) if method in self.act else send(changed))
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            answer = self.response.get(method, nothing)(answer)
            self.seen.append((method, changed, answer))
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _stream(self, asked: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        call: Any = self.onward.stream_stream(STREAM)()

        async def answers() -> None:
            while (item := await call.read()) is not grpc.aio.EOF:
                for changed in self.answered(item):
                    await context.write(changed)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(answers())
                async for message in asked:
                    self.passed.append(message)
                    for changed in self.asked(message):
                        await call.write(changed)
                await call.done_writing()
        finally:
            call.cancel()

    def honest(self) -> None:
        """Change nothing any more."""
        self.request.clear()
        self.response.clear()
        self.act.clear()
        self.seen.clear()
        self.asked = self.answered = itself
        self.passed.clear()

    def sent(self, method: str = INFER) -> list[bytes]:
        """The requests that passed."""
        return [request for passed, request, _ in self.seen if passed == method]

    def answers(self, method: str = INFER) -> list[bytes]:
        """The answers that went back."""
        return [answer for passed, _, answer in self.seen if passed == method]


def from_cache(answer: bytes) -> Act:
    """Ask nobody, and answer what was answered before."""

    async def act(_request: bytes, _send: Send) -> bytes:
        return answer

    return act


def swapped() -> Act:
    """Have calls come in pairs, and give each the answer of the other."""
    waiting: list[tuple[bytes, asyncio.Future[bytes]]] = []

    async def act(request: bytes, send: Send) -> bytes:
        answer = await send(request)
        if waiting:
            others, theirs = waiting.pop()
            theirs.set_result(answer)
            return others
        mine: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        waiting.append((answer, mine))
        async with asyncio.timeout(20):
            return await mine

    return act


@asynccontextmanager
async def evil_gateway(true_gateway: str, cluster: str, gateway: Path, client: Path) -> AsyncIterator[EvilGateway]:
    """Listen with the identity in the folder `gateway`, and call the true one with that in `client`."""
    own, asking = held(gateway), held(client)
    options = (("grpc.ssl_target_name_override", server_name(cluster, "gateway")),)
    async with grpc.aio.secure_channel(true_gateway, asking.channel_credentials(), options=options) as onward:
        evil = EvilGateway(onward)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((evil,))
        evil.address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', own.server_credentials())}"
        await server.start()
        try:
            yield evil
        finally:
            await server.stop(None)


def held(folder: Path) -> TlsIdentity:
    """The identity in a mesh folder's identity folder."""
    names = ("certificate.pem", "private_key.pem", "trust_roots.pem")
    return TlsIdentity.held(*((folder / name).read_bytes() for name in names))
