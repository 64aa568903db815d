"""The metrics page, for the operator: plain HTTP on an address of its own, never on the port that peers reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, start_http_server

from cloister.errors import NotReady
from cloister.kit.config import settings_error


@asynccontextmanager
async def exporter(listen: str, registry: CollectorRegistry) -> AsyncIterator[int]:
    """Serve `registry` while the block lasts; yields the port, or 0 where nothing is to be served.

    Args:
        listen: host:port, `:port` for this machine only, or empty for no page at all.
        registry: What to show.

    Raises:
        InvalidRequest: `listen` is not an address; a mistake in the settings.
        NotReady: The address cannot be had.
    """
    if not listen:
        yield 0
        return
    host, port = _address(listen)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise NotReady(f"cannot listen on {listen}: {error.strerror}", reason="address.taken") from error
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join)


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise settings_error("metrics_listen", "must be host:port")
    return host.strip("[]") or "127.0.0.1", int(port)
