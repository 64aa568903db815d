"""A gateway that cheats: it has the gateway's own certificate, and changes what it likes on the way.

It passes every call on to the true gateway, as a client of its own, with full power over each message.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name

INFER = "/inference.GRPCInferenceService/ModelInfer"
WORKERS = "/cloister.api.v1.Gateway/ListWorkers"
Change = Callable[[bytes], bytes]


def nothing(message: bytes) -> bytes:
    """An honest gateway's change."""
    return message


@dataclass
class EvilGateway(grpc.GenericRpcHandler):
    """Set `request` or `response` by method to change what passes; `seen` keeps what did."""

    onward: grpc.aio.Channel
    address: str = ""
    request: dict[str, Change] = field(default_factory=dict)
    response: dict[str, Change] = field(default_factory=dict)
    seen: list[tuple[str, bytes, bytes]] = field(default_factory=list)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Pass any unary call on, as bytes."""
        method = str(details.method)

        async def handle(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            changed = self.request.get(method, nothing)(message)
            try:
                answer: bytes = await self.onward.unary_unary(method)(changed, timeout=20)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            answer = self.response.get(method, nothing)(answer)
            self.seen.append((method, changed, answer))
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)

    def honest(self) -> None:
        """Change nothing any more."""
        self.request.clear()
        self.response.clear()
        self.seen.clear()


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
