"""The operator's pages: metrics, and whether this process lives and is ready.

Plain HTTP on an address of its own, never on the port that peers reach. A thread answers, so a page comes also where
the event loop is held up; `/live` then says 503, for a process whose loop does nothing is not alive.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from cloister.errors import NotReady
from cloister.kit.config import settings_error

HELD_UP_S: Final = 10.0
"""An event loop that has not come to a timer of a second for so long is stuck."""
_TICK_S: Final = 1.0


@asynccontextmanager
async def exporter(
    listen: str, registry: CollectorRegistry, ready: Callable[[], bool] = lambda: True
) -> AsyncIterator[int]:
    """Serve the pages while the block lasts; yields the port, or 0 where nothing is to be served.

    Args:
        listen: host:port, `:port` for this machine only, or empty for no page at all.
        registry: What `/metrics` shows.
        ready: What `/ready` says, 200 or 503; called by any thread.

    Raises:
        InvalidRequest: `listen` is not an address; a mistake in the settings.
        NotReady: The address cannot be had.
    """
    if not listen:
        yield 0
        return
    host, port = _address(listen)
    with _beating() as live:
        pages = _pages(make_wsgi_app(registry), {"/live": live, "/ready": ready})
        try:
            server = make_server(host, port, pages, _SixServer if ":" in host else ThreadingWSGIServer, _Silent)
        except OSError as error:
            raise NotReady(f"cannot listen on {listen}: {error.strerror}", reason="address.taken") from error
        thread = threading.Thread(target=server.serve_forever, name="pages", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            await asyncio.to_thread(thread.join)


def _pages(metrics: WSGIApplication, answers: dict[str, Callable[[], bool]]) -> WSGIApplication:
    def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = answers.get(environ["PATH_INFO"])
        if answer is None:
            return metrics(environ, start_response)
        said = answer()
        start_response("200 OK" if said else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"yes\n" if said else b"no\n"]

    return page


@contextmanager
def _beating() -> Iterator[Callable[[], bool]]:
    """Whether the event loop goes on, as long as the block lasts; to be asked by any thread."""
    loop = asyncio.get_running_loop()
    beaten_at = time.monotonic()
    timer: asyncio.TimerHandle

    def beat() -> None:
        nonlocal beaten_at, timer
        beaten_at = time.monotonic()
        timer = loop.call_later(_TICK_S, beat)

    beat()
    try:
        yield lambda: time.monotonic() - beaten_at < HELD_UP_S
    finally:
        timer.cancel()


class _SixServer(ThreadingWSGIServer):
    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: whoever looks each second is no event."""


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise settings_error("metrics_listen", "must be host:port")
    return host.strip("[]") or "127.0.0.1", int(port)
