"""A gateway's end of a link without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from cloister.api.v1.worker_pb2 import GatewayFrame, InferCall, InferResult, ModelOrder, OrderResult, WorkerFrame
from cloister.worker.link import WorkerLink
from cloister.worker.shares import Shares
from fakes.attested_worker import Inside


class GatewayEnd:
    """Sends calls, and keeps what comes back.

    Attributes:
        frames: Every frame that came.
        held: While cleared, frames are not taken.
    """

    def __init__(self) -> None:
        self.frames: list[WorkerFrame] = []
        self.held = asyncio.Event()
        self.held.set()
        self._to_worker: asyncio.Queue[GatewayFrame | None] = asyncio.Queue()
        self._came = asyncio.Condition()
        self._next_id = 0

    async def sent(self) -> AsyncIterator[GatewayFrame]:
        while (frame := await self._to_worker.get()) is not None:
            yield frame

    async def write(self, frame: WorkerFrame) -> None:
        await self.held.wait()
        async with self._came:
            self.frames.append(frame)
            self._came.notify_all()

    def send(
        self, *requests: bytes, timeout_ms: int = 10_000, cancelled: tuple[int, ...] = (), trace_id: bytes = b""
    ) -> list[int]:
        """Send one frame; returns the ids of its calls."""
        ids = list(range(self._next_id + 1, self._next_id + 1 + len(requests)))
        self._next_id += len(requests)
        calls = [
            InferCall(
                call_id=call_id,
                request=request,
                timeout_ms=timeout_ms,
                tenant="spiffe://t/client/ann",
                trace_id=trace_id,
            )
            for call_id, request in zip(ids, requests, strict=True)
        ]
        self._to_worker.put_nowait(GatewayFrame(calls=calls, cancelled=cancelled))
        return ids

    def send_frame(self, frame: GatewayFrame) -> None:
        self._to_worker.put_nowait(frame)

    def end(self) -> None:
        """Half-close."""
        self._to_worker.put_nowait(None)

    @property
    def results(self) -> dict[int, InferResult]:
        found = [result for frame in self.frames for result in frame.results]
        assert len({result.call_id for result in found}) == len(found), "a call has one result"
        return {result.call_id: result for result in found}

    async def until(self, done) -> None:
        """Wait until `done()` is true."""
        async with asyncio.timeout(10), self._came:
            await self._came.wait_for(done)

    async def answered(self, *call_ids: int) -> dict[int, InferResult]:
        await self.until(lambda: all(call_id in self.results for call_id in call_ids))
        return self.results


def obeyed(order: ModelOrder, done: Callable[[OrderResult], None]) -> None:
    """A repository that says yes to everything."""
    done(OrderResult(order_id=order.order_id))


@asynccontextmanager
async def linked(
    inside: Inside, slots: int | Shares = 4, **options: Any
) -> AsyncIterator[tuple[GatewayEnd, WorkerLink]]:
    """A link that runs; it ends with the block."""
    shares = Shares(slots) if isinstance(slots, int) else slots
    gateway, link = GatewayEnd(), WorkerLink(inside.answers, inside.served, shares, order=obeyed, **options)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(link.run(gateway.sent(), gateway.write))
        await gateway.until(lambda: gateway.frames)
        yield gateway, link
        inside.engine.gate.set()
        gateway.held.set()
        gateway.end()
