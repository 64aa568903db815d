"""What an operator asks of one worker, on its way over the link: each order is answered once, or the link ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from cloister.api.v1.worker_pb2 import GatewayFrame, ModelOrder, OrderResult
from cloister.errors import InvalidRequest, Unavailable
from cloister.rpc.status import from_failure


class Orders:
    """The orders of one link."""

    def __init__(self) -> None:
        self._last_id = 0
        self._unsent: list[ModelOrder] = []
        self._open: dict[int, asyncio.Future[None]] = {}

    def __bool__(self) -> bool:
        """Whether some have not left yet."""
        return bool(self._unsent)

    def add(self, kind: ModelOrder.Kind, name: str, version: str) -> asyncio.Future[None]:
        """Note an order; what comes of it, or why nothing does, comes to the future."""
        self._last_id += 1
        order = ModelOrder(order_id=self._last_id, kind=kind, model_name=name, model_version=version)
        self._unsent.append(order)
        answer = self._open[self._last_id] = asyncio.get_running_loop().create_future()
        return answer

    def take(self) -> bytes:
        """The part of a serialised `GatewayFrame` that carries what has not left yet."""
        if not self._unsent:
            return b""
        frame = GatewayFrame(orders=self._unsent)
        self._unsent.clear()
        return frame.SerializeToString()

    def settle(self, results: Iterable[OrderResult]) -> None:
        """Take results; raises InvalidRequest for one that nothing was ordered for."""
        for result in results:
            answer = self._open.pop(result.order_id, None)
            if answer is None:
                raise InvalidRequest("a worker obeys what it was not ordered", reason="link.broken")
            if answer.done():
                continue
            if result.HasField("failure"):
                answer.set_exception(from_failure(result.failure))
            else:
                answer.set_result(None)

    def fail(self) -> None:
        """The link is gone, and with it what was ordered."""
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(Unavailable("the worker was lost before it had obeyed", reason="link.closed"))
                answer.exception()  # asyncio complains of errors that nobody looks at
        self._open.clear()
