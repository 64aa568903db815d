"""All calls that a provisioner does not serve now: each is answered with the reason why."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import grpc.aio

from cloister.errors import CloisterError


class EverythingElse(grpc.GenericRpcHandler):
    """Refuses whatever no handler before it serves.

    Args:
        why: What to refuse a call with.
    """

    def __init__(self, why: Callable[[], CloisterError]) -> None:
        self._why = why
        self._handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._refuse)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """See the base; every method is one."""
        return self._handler

    async def _refuse(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        raise self._why()
