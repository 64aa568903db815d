"""A bridge put together: streams of a Redis on one side, a client of the mesh on the other."""

from __future__ import annotations

import asyncio

from cloister.client import Client
from cloister.client.tasks import task_group
from cloister.compat.zoo.bridge.carrier import Carrier
from cloister.compat.zoo.bridge.connecting import check_other_than, check_suitable, connected
from cloister.compat.zoo.bridge.counts import Counts
from cloister.compat.zoo.bridge.mesh import MeshModel
from cloister.compat.zoo.bridge.settings import BridgeSettings
from cloister.compat.zoo.bridge.stream import Stream


async def carry(
    settings: BridgeSettings, client: Client, counts: Counts, stopping: asyncio.Event, *, mesh_redis: str = ""
) -> None:
    """Answer what comes by the streams until `stopping`.

    Args:
        settings: What to do.
        client: Of the mesh, connected.
        counts: Hears of each request.
        stopping: Set when it is to end.
        mesh_redis: Address of the mesh's own Redis, where it is known.

    Raises:
        NotReady: That Redis is the mesh's own (`redis.of_mesh`), or too old (`redis.unsuitable`).
        Unavailable: It does not answer when the bridge starts; later, that is waited for.
    """
    check_other_than(settings.redis, mesh_redis, client.trust.root_ca_pem)
    async with connected(settings.redis, len(settings.streams)) as redis:
        await check_suitable(redis, settings.redis.timeout_s, client.trust.cluster)
        async with task_group() as group:
            for name, target in settings.streams.items():
                stream = Stream(redis, name, settings)
                group.create_task(Carrier(stream, MeshModel(client, target), counts, settings).run(stopping))
