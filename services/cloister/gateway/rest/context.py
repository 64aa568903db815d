"""What a handler sees of a REST request: the face that `grpc.aio` gives a call, with the errors that come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
import grpc.aio

from cloister.errors import CloisterError
from cloister.rpc.identity import PeerIdentity
from cloister.rpc.status import from_rpc_error

Metadata = Iterable[tuple[str, str | bytes]]


class RestContext:
    """The server's side of one call.

    Args:
        message: Reads the HTTP request, and makes the serialised message of it that the handler takes.
        identity: Who asks, or why that is nobody.
    """

    def __init__(self, message: Callable[[], Awaitable[bytes]], identity: PeerIdentity | CloisterError) -> None:
        self.identity = identity
        self._message = message
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata = ()

    async def read(self) -> Any:
        """The request's one message."""
        return await self._message()

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        """End the call with a status; raises `grpc.aio.AbortError`."""
        self._code, self._details = code, details
        self._trailing = trailing_metadata or self._trailing
        raise grpc.aio.AbortError("the call was ended with a status")

    def error(self) -> CloisterError | TimeoutError:
        """What a client over gRPC would make of the status it was ended with."""
        code = self._code or grpc.StatusCode.UNKNOWN
        trailing = grpc.aio.Metadata(*self._trailing)
        return from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, self._details))

    def code(self) -> grpc.StatusCode | None:
        """The status it was ended with."""
        return self._code

    def trailing_metadata(self) -> Metadata:
        """What goes along with the answer."""
        return self._trailing

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Send this along with the answer."""
        self._trailing = trailing_metadata

    def time_remaining(self) -> float | None:
        """A client over HTTP names no deadline: it leaves."""
        return None
