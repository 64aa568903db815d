"""A small service of every call shape behind a real `Server`: what tests of the wire talk to.

Methods: Echo (unary), Repeat (unary to stream), Total (stream to unary), Chat (stream to stream), Fail (raises the
class that the request names), Hold (waits until released), Hidden (in no role table), Raw (bytes both ways).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import StringValue

from cloister import errors
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import ANY_ROLE, Call, Server, current_peer
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from fakes.pki import MeshPki

SERVICE = "test.Echo"
ROLES: Mapping[str, frozenset[str]] = {
    **{f"/{SERVICE}/{name}": ANY_ROLE for name in ("Repeat", "Total", "Chat", "Fail", "Hold", "Raw", "Who")},
    f"/{SERVICE}/Echo": frozenset({"gateway", "client", "worker"}),
}


@dataclass
class EchoServicer:
    """Behaves; remembers what tests ask about."""

    release: asyncio.Event = field(default_factory=asyncio.Event)
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0

    async def Echo(self, request: StringValue, _context: Any) -> StringValue:
        self.calls += 1
        return request

    async def Who(self, _request: StringValue, _context: Any) -> StringValue:
        return StringValue(value=current_peer().spiffe_id)

    async def Repeat(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        try:
            for number in range(int(request.value)):
                yield StringValue(value=str(number))
        finally:
            self.closed.set()

    async def Total(self, requests: AsyncIterator[StringValue], _context: Any) -> StringValue:
        return StringValue(value=str(sum([int(request.value) async for request in requests])))

    async def Chat(self, requests: AsyncIterator[StringValue], context: Any) -> None:
        async for request in requests:
            if request.value == "fail":
                raise errors.Overloaded("enough")
            await context.write(request)

    async def Fail(self, request: StringValue, context: Any) -> StringValue:
        name, _, text = request.value.partition(":")
        if name == "EvidenceRejected":
            raise errors.EvidenceRejected(text, step=6, reason="evidence.out_of_date")
        if name == "Abort":
            await context.abort(grpc.StatusCode.DATA_LOSS, text)
        if name == "Type":
            return text  # type: ignore[return-value]  # a handler with a defect
        if hasattr(errors, name):
            raise getattr(errors, name)(text)
        raise {"TimeoutError": TimeoutError, "ValueError": ValueError}[name](text)

    async def Hold(self, request: StringValue, _context: Any) -> StringValue:
        self.holding.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request

    async def Hidden(self, request: StringValue, _context: Any) -> StringValue:
        return request

    async def Raw(self, request: bytes, _context: Any) -> bytes:
        return request[::-1]


class EchoStub:
    """As protoc would write it, methods of `EchoServicer`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        coding = (StringValue.SerializeToString, StringValue.FromString)
        for name in ("Echo", "Who", "Fail", "Hold", "Hidden", "Missing"):
            setattr(self, name, channel.unary_unary(f"/{SERVICE}/{name}", *coding))
        self.Repeat: Any = channel.unary_stream(f"/{SERVICE}/Repeat", *coding)
        self.Total: Any = channel.stream_unary(f"/{SERVICE}/Total", *coding)
        self.Chat: Any = channel.stream_stream(f"/{SERVICE}/Chat", *coding)
        self.Raw: Any = channel.unary_unary(f"/{SERVICE}/Raw")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def handlers(servicer: EchoServicer) -> grpc.GenericRpcHandler:
    coding = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    unary = {
        name: grpc.unary_unary_rpc_method_handler(getattr(servicer, name), **coding)
        for name in ("Echo", "Who", "Fail", "Hold", "Hidden")
    }
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            **unary,
            "Repeat": grpc.unary_stream_rpc_method_handler(servicer.Repeat, **coding),
            "Total": grpc.stream_unary_rpc_method_handler(servicer.Total, **coding),
            "Chat": grpc.stream_stream_rpc_method_handler(servicer.Chat, **coding),
            "Raw": grpc.unary_unary_rpc_method_handler(servicer.Raw),
        },
    )


class Calls(list[Call]):
    """Calls that the server has ended. It notes them after it has answered, so tests wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def note(self, call: Call) -> None:
        self.append(call)
        self._more.set()

    async def ended(self, number: int) -> Call:
        """The call of this number, the first being 1."""
        async with asyncio.timeout(5):
            while len(self) < number:
                self._more.clear()
                await self._more.wait()
        return self[number - 1]


@dataclass
class Running:
    """A served echo, and everything a test may want of it."""

    server: Server
    servicer: EchoServicer
    identity: TlsIdentity
    lifecycle: Lifecycle
    pki: MeshPki
    calls: Calls

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def peer(self, identity: TlsIdentity | None = None, **options: Any) -> Peer:
        """A peer with the role gateway, unless told otherwise."""
        identity = identity or self.pki.identity("gateway", "g1").held()
        options.setdefault("server_name", f"verifier.{self.pki.cluster}")
        return Peer(self.address, identity, **options)


@asynccontextmanager
async def echo_server(pki: MeshPki, *, identity: TlsIdentity | None = None, **options: Any) -> AsyncIterator[Running]:
    """Serve an `EchoServicer` as the verifier of the cluster (unless told otherwise), until the block ends."""
    identity = identity or pki.identity("verifier", "v1").held()
    servicer, calls = EchoServicer(), Calls()
    options = {"roles": ROLES, "grace_s": 1.0, "drain_pause_s": 0.0, "on_call": calls.note, **options}
    async with (
        Lifecycle.running() as lifecycle,
        Server.mtls("127.0.0.1:0", identity, lifecycle=lifecycle, **options) as server,
    ):
        server.add_generic(handlers(servicer))
        await server.start()
        yield Running(server, servicer, identity, lifecycle, pki, calls)
