"""The worker's one call. Who may make it is in `ROLES`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from cloister.api.v1.worker_pb2 import GatewayFrame
from cloister.api.v1.worker_pb2_grpc import WorkerServicer as Base
from cloister.kit.server import current_peer
from cloister.worker.answers import Answers
from cloister.worker.clock import MeshClock
from cloister.worker.link import WorkerLink
from cloister.worker.repository import Repository
from cloister.worker.served import ServedModels
from cloister.worker.shares import Shares

SERVICE: Final = "cloister.api.v1.Worker"
ROLES: Final[Mapping[str, set[str]]] = {f"/{SERVICE}/Link": {"gateway"}}


class WorkerServicer(Base):
    """Serves `cloister.api.v1.Worker`.

    Args:
        answers: Opens requests and seals answers.
        served: What to announce.
        repository: Obeys an operator's orders.
        shares: Of the links, in the calls of each model that may be under way at once.
        tenants_apart: Whether requests of different tenants share no evaluation.
        stopping: Links drain once it is set.
        clock: Says when a gateway's certificate ends.
    """

    def __init__(
        self,
        answers: Answers,
        served: ServedModels,
        repository: Repository,
        *,
        shares: Shares,
        stopping: asyncio.Event,
        clock: MeshClock,
        tenants_apart: bool = False,
    ) -> None:
        self._answers = answers
        self._served = served
        self._repository = repository
        self._shares = shares
        self._tenants_apart = tenants_apart
        self._stopping = stopping
        self._clock = clock

    # The generated base promises an iterator of frames; writing them is the other form that gRPC serves.
    async def Link(self, request_iterator: AsyncIterator[GatewayFrame], context: Any) -> None:  # type: ignore[override]
        """One gateway's calls, until it ends the stream."""
        link = WorkerLink(
            self._answers,
            self._served,
            self._shares,
            tenants_apart=self._tenants_apart,
            order=self._repository.submit,
        )
        async with asyncio.TaskGroup() as group:
            until = datetime.fromtimestamp(current_peer().expires_at, UTC)
            draining = group.create_task(self._drain(link, until))
            await link.run(request_iterator, context.write)
            draining.cancel()

    async def _drain(self, link: WorkerLink, until: datetime) -> None:
        """Drain when the worker stops, or when the certificate ends that the stream was opened with."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._clock.lasts_s(until))):
                await self._stopping.wait()
        link.drain()
