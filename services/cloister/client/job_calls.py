"""Calls of the gateway's Jobs, made again where that may help: each of them may be made as often as need be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from cloister.api.v1.jobs_pb2_grpc import JobsStub
from cloister.rpc.channel import Peer

T = TypeVar("T")


class Again(Protocol):
    """Makes a call until it succeeds, fails for good, or the time is up."""

    async def __call__(self, call: Callable[[float], Awaitable[T]], asked: str, timeout_s: float | None) -> T:
        """`asked` names the model for whoever hears that there is none such."""
        ...


class JobCalls:
    """The gateway's Jobs.

    Args:
        gateway: Connected as this client.
        again: How its calls are made again.
    """

    def __init__(self, gateway: Peer, again: Again) -> None:
        self._gateway = gateway
        self._again = again

    @property
    def stub(self) -> Any:
        """For a call that is made once."""
        return self._gateway.stub(JobsStub)

    async def again(self, call: Callable[[Any, float], Awaitable[T]], model: str, timeout_s: float) -> T:
        """Make a call until it succeeds, fails for good, or the time is up."""
        return await self._again(lambda left_s: call(self.stub, left_s), f"'{model}'", timeout_s)
