"""A listener for owners, operators and auditors, where the settings give them one; workers' calls are not there.

Roles are enforced wherever a call comes in. Apart from that, a network can keep workers from an address, and cannot
keep them from a method (attack F15). The identity is the provisioner's there as here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from cloister.kit.calls import Call
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import Server
from cloister.kit.shares import Shares
from cloister.provisioner.recovery.servicer import ROLES as RECOVERY_ROLES
from cloister.provisioner.servicer import ROLES
from cloister.provisioner.settings import Settings
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import WORKER

ALL_ROLES: Final[Mapping[str, set[str]]] = {**ROLES, **RECOVERY_ROLES}
"""Who may call what of all that a provisioner serves."""
MAX_MESSAGE_BYTES: Final = 1 << 20
MAX_CALLS: Final = 64
CALLS_OF_A_PEER: Final = 16
UNREAD_BYTES_OF_A_PEER: Final = 32 << 20
MAX_CONNECTIONS: Final = 256


def roles_at_the_door(settings: Settings) -> Mapping[str, set[str]]:
    """Who may call what at `listen`: everybody what is theirs, or workers alone where others have their own door."""
    if not settings.owner_listen:
        return ALL_ROLES
    return {method: roles & {WORKER} for method, roles in ALL_ROLES.items() if WORKER in roles}


@asynccontextmanager
async def owner_listener(
    settings: Settings,
    lifecycle: Lifecycle,
    identity: TlsIdentity,
    add_to: Callable[[Server], None],
    *,
    ready: Callable[[str], None],
    on_call: Callable[[Call], None],
) -> AsyncIterator[Server | None]:
    """Listen at `owner_listen` while the block lasts; None where it is empty.

    Args:
        settings: The provisioner's.
        lifecycle: It drains when this is stopping.
        identity: The provisioner's.
        add_to: Adds to a server what answers.
        ready: Asked before each call, as at `listen`.
        on_call: Counts its calls.

    Raises:
        NotReady: The address cannot be had.
    """
    if not settings.owner_listen:
        yield None
        return
    listener = Server.mtls(
        settings.owner_listen,
        identity,
        lifecycle=lifecycle,
        roles={method: roles - {WORKER} for method, roles in ALL_ROLES.items() if roles != {WORKER}},
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_concurrent=MAX_CALLS,
        shares=Shares(CALLS_OF_A_PEER, UNREAD_BYTES_OF_A_PEER),
        max_connections=MAX_CONNECTIONS,
        grace_s=settings.grace_s,
        ready=ready,
        on_call=on_call,
    )
    async with listener as server:
        add_to(server)
        await server.start()
        running = lifecycle.spawn(server.run(), "owners")
        try:
            yield server
        finally:
            running.cancel()
