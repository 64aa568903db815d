"""An HTTP/2 server as pyvoy is one to an application: `receive` and `send` act when called and return futures."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

Event = dict[str, Any]


class AsgiHost:
    """One request of one client.

    Attributes:
        sent: Every event of the application.
        taking: While cleared, the client takes nothing of a body that goes on.
    """

    def __init__(self, *, headers: tuple[tuple[bytes, bytes], ...] = (), path: bytes = b"/t.S/M") -> None:
        self.scope: Event = {
            "type": "http",
            "method": "POST",
            "raw_path": path,
            "query_string": b"",
            "headers": [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *headers],
        }
        self.sent: list[Event] = []
        self.taking = True
        self._arrived: deque[Event] = deque()
        self._asked: deque[asyncio.Future[Event]] = deque()
        self._held: deque[asyncio.Future[None]] = deque()
        self._half_closed = self._gone = False

    def arrive(self, body: bytes, *, last: bool = False) -> None:
        """Some of the request's body has come."""
        self._half_closed = self._half_closed or last
        self._arrived.append({"type": "http.request", "body": body, "more_body": not last})
        self._serve()

    def leave(self) -> None:
        """The client is gone."""
        self._gone = True
        self._serve()
        for future in self._held:
            future.set_exception(ConnectionError())

    def take(self) -> None:
        """The client takes what was held."""
        self.taking = True
        while self._held:
            self._held.popleft().set_result(None)

    def receive(self) -> asyncio.Future[Event]:
        """As ASGI; once the whole body has come, it says so again and again until the client is gone."""
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        self._serve()
        return future

    def send(self, event: Event) -> asyncio.Future[None]:
        """As ASGI."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent.append(event)
        if event.get("more_body") and not self.taking:
            self._held.append(future)
        else:
            future.set_result(None)
        return future

    @property
    def waiting(self) -> int:
        """Pieces of the request that nobody has asked for."""
        return len(self._arrived)

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent)

    @property
    def trailers(self) -> dict[bytes, bytes]:
        """What came last, be it headers alone or trailers."""
        return dict(next(event for event in reversed(self.sent) if "headers" in event)["headers"])

    def _serve(self) -> None:
        while self._asked and (self._gone or self._arrived or self._half_closed):
            future = self._asked.popleft()
            if future.cancelled():
                continue
            if self._gone:
                future.set_result({"type": "http.disconnect"})
            elif self._arrived:
                future.set_result(self._arrived.popleft())
            else:
                future.set_result({"type": "http.request", "body": b"", "more_body": False})
