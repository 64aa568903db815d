"""The verifier as a gateway sees it: who is attested, and what changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from cloister.api.v1.verifier_pb2 import (
    AttestedEvent,
    AttestedWorker,
    Revocation,
    TrustEvent,
    WatchAttestedRequest,
    WatchTrustRequest,
)
from cloister.api.v1.verifier_pb2_grpc import VerifierServicer, add_VerifierServicer_to_server
from fakes.pki import MeshPki


class AttestedFeed(VerifierServicer):
    """Serves WatchAttested: a snapshot for each watcher, then the changes that a test makes."""

    def __init__(self) -> None:
        self.workers: dict[str, AttestedWorker] = {}
        self.port = 0
        self.revoked: list[Revocation] = []
        self.key_set = b""
        self._watchers: set[asyncio.Queue[AttestedEvent | None]] = set()
        self._trust_changed = asyncio.Condition()

    @asynccontextmanager
    async def serving(self, pki: MeshPki) -> AsyncIterator[AttestedFeed]:
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_VerifierServicer_to_server(self, server)
        credentials = pki.identity("verifier", "verifier").held().server_credentials()
        self.port = server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)

    def join(self, *workers: AttestedWorker) -> None:
        """Say that these are attested; of one that was, that it has renewed."""
        for worker in workers:
            known = worker.instance in self.workers
            self.workers[worker.instance] = worker
            kind = AttestedEvent.KIND_RENEWED if known else AttestedEvent.KIND_JOINED
            self._tell(AttestedEvent(kind=kind, worker=worker))

    def go(self, instance: str, reason: str = "left") -> None:
        """Say that a worker is gone."""
        worker = self.workers.pop(instance)
        self._tell(AttestedEvent(kind=AttestedEvent.KIND_GONE, worker=worker, reason=reason))

    def cut(self) -> None:
        """End all watches; they may come again."""
        for events in self._watchers:
            events.put_nowait(None)

    async def WatchAttested(self, request: WatchAttestedRequest, context: Any) -> None:
        events: asyncio.Queue[AttestedEvent | None] = asyncio.Queue()
        for worker in self.workers.values():
            events.put_nowait(AttestedEvent(kind=AttestedEvent.KIND_JOINED, worker=worker))
        events.put_nowait(AttestedEvent(kind=AttestedEvent.KIND_CURRENT))
        self._watchers.add(events)
        try:
            while (event := await events.get()) is not None:
                await context.write(event)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        finally:
            self._watchers.discard(events)

    async def revoke(self, *revocations: Revocation, key_set: bytes = b"") -> None:
        """Say that these are revoked, and no others."""
        async with self._trust_changed:
            self.revoked, self.key_set = list(revocations), key_set
            self._trust_changed.notify_all()

    async def WatchTrust(self, request: WatchTrustRequest, context: Any) -> None:
        sequence = 0
        async with self._trust_changed:
            while True:
                sequence += 1
                await context.write(
                    TrustEvent(sequence=sequence, listed=True, revocations=self.revoked, key_set=self.key_set)
                )
                await self._trust_changed.wait()

    def _tell(self, event: AttestedEvent) -> None:
        for events in self._watchers:
            events.put_nowait(event)
