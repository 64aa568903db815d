"""A listener for operators and nobody else: how the mesh is, health with all its methods, and reflection.

On the clients' listener there is no reflection at all, and no more of health than whether we serve (attacks G28). The
identity is the gateway's there as here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cloister.api.v1.gateway_pb2_grpc import GatewayServicer, add_GatewayServicer_to_server
from cloister.gateway.reflection import REFLECTION, reflection_handlers
from cloister.gateway.servicer import GATEWAY
from cloister.gateway.settings import Settings
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.kit.server import Server
from cloister.rpc.identity import TlsIdentity

HEALTH: Final = "grpc.health.v1.Health"
_OPERATORS: Final = frozenset({"operator"})
ROLES: Final = {
    f"/{GATEWAY}/GetStatus": _OPERATORS,
    HEALTH: _OPERATORS,
    f"/{HEALTH}/Check": _OPERATORS,
    **dict.fromkeys(REFLECTION, _OPERATORS),
}
MAX_MESSAGE_BYTES: Final = 4 << 20
MAX_CALLS: Final = 64
MAX_CONNECTIONS: Final = 64


@asynccontextmanager
async def operator_listener(
    settings: Settings, lifecycle: Lifecycle, identity: TlsIdentity, metrics: Metrics, gateway: GatewayServicer
) -> AsyncIterator[Server | None]:
    """Listen at `operator_listen` while the block lasts; None where it is empty.

    Args:
        settings: The gateway's.
        lifecycle: It drains when this is stopping.
        identity: The gateway's.
        metrics: Counts its calls.
        gateway: Says how the mesh is.

    Raises:
        NotReady: The address cannot be had.
    """
    if not settings.operator_listen:
        yield None
        return
    listener = Server.mtls(
        settings.operator_listen,
        identity,
        lifecycle=lifecycle,
        roles=ROLES,
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_concurrent=MAX_CALLS,
        max_connections=MAX_CONNECTIONS,
        grace_s=settings.grace_s,
        max_call_s=settings.max_call_s,
        on_call=metrics.call_answered,
    )
    async with listener as server:
        server.add(add_GatewayServicer_to_server, gateway)
        for handler in reflection_handlers((GATEWAY, HEALTH, *REFLECTION)):
            server.add_generic(handler)
        await server.health.set("", False)
        await server.start()
        running = lifecycle.spawn(server.run(), "operators")
        try:
            yield server
        finally:
            running.cancel()
