"""A provisioner that stands by: another one writes the log, and this one is ready to when that one does no more.

It opens nothing of the state. It says NOT_SERVING, refuses each call so that the caller goes to another address of
the provisioner, and asks the witnesses who has the writer's lease. As soon as nobody has it the state is opened, and it
is checked and served as after any start: all that the other one did is in the log (docs/decisions/0058-standby.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from cloister.errors import Unavailable
from cloister.kit.exporter import exporter
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.kit.server import Server
from cloister.provisioner.everything_else import EverythingElse
from cloister.provisioner.owner_listener import owner_listener, roles_at_the_door
from cloister.provisioner.servicer import SERVICE
from cloister.provisioner.serving import OF_THE_STATE
from cloister.provisioner.settings import Settings
from cloister.provisioner.witnesses.witnessed import Witnessed
from cloister.provisioner.witnesses.witnessing import witnessing
from cloister.rpc.identity import TlsIdentity

LOOK_S: Final = 0.25
"""How often the witnesses are asked."""
OTHER: Final = "writer.other"
_log = get_logger()


class Standby:
    """What is known of the one that writes. Called on the event loop.

    Args:
        witnessed: Tells.
        writer: What it calls itself.
    """

    def __init__(self, witnessed: Witnessed, writer: str) -> None:
        self.writer = writer
        self._witnessed = witnessed

    def refusal(self) -> Unavailable:
        """What each caller hears; whoever has another address of the provisioner goes there."""
        return Unavailable(f"this provisioner stands by; the log is written by {self.writer}", reason=OTHER)

    async def ended(self) -> None:
        """Wait until nobody has the lease. While witnesses are silent, nobody knows."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                writer = await self._witnessed.other()
            except Unavailable:
                continue
            if writer is None:
                return
            self.writer = writer


async def stand_by(settings: Settings, lifecycle: Lifecycle) -> None:
    """Return once this process may open the state: at once, unless another has the writer's lease, or when stopped.

    Where no witness answers at first, that is for the start to say: nothing is served either way.

    Raises:
        NotReady: A file is missing, or an address cannot be had.
    """
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(TlsIdentity.watching(settings.tls))
        metrics = Metrics()
        witnessed = await stack.enter_async_context(
            witnessing(settings.witness_addresses, identity, metrics, cluster=settings.cluster, listen=settings.listen)
        )
        try:
            writer = await witnessed.other()
        except Unavailable:
            return
        if writer is None:
            return
        standby = Standby(witnessed, writer)
        await stack.enter_async_context(exporter(settings.metrics_listen, metrics.registry, lifecycle.ready))
        await stack.enter_async_context(_refusing(settings, lifecycle, identity, metrics, standby))
        _log.warning("provisioner.standing_by", writer=writer)
        await lifecycle.unless_stopped(standby.ended())
    if not lifecycle.stopping.is_set():
        _log.warning("provisioner.taking_over", from_writer=standby.writer)


@asynccontextmanager
async def _refusing(
    settings: Settings, lifecycle: Lifecycle, identity: TlsIdentity, metrics: Metrics, standby: Standby
) -> AsyncIterator[None]:
    """Both listeners of a provisioner answer, and serve nothing, while the block lasts."""

    def ready(method: str) -> None:
        if method.startswith(OF_THE_STATE):
            raise standby.refusal()

    def add_to(server: Server) -> None:
        server.add_generic(EverythingElse(standby.refusal))

    listener = Server.mtls(
        settings.listen,
        identity,
        lifecycle=lifecycle,
        roles=roles_at_the_door(settings),
        on_call=metrics.call_answered,
        ready=ready,
    )
    owners = owner_listener(settings, lifecycle, identity, add_to, ready=ready, on_call=metrics.call_answered)
    async with listener as server, owners as at_owners:
        add_to(server)
        for each in (server, at_owners):
            if each is not None:
                await each.health.set("", False)
                await each.health.set(SERVICE, False)
        await server.start()
        yield
