"""What one of several processes of a gateway may hold of the limits that its settings name for all of them.

The processes share a port and nothing else: a tenant's calls come to whichever process the kernel gave its connection
to, and no process knows of the others' calls. So each enforces its equal part of every limit, rounded up. A tenant with
connections to all processes has the whole limit; one with a single connection has one part of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cloister.gateway.settings import Settings
from cloister.kit.shared_port import Place

DIVIDED: Final = (
    "queue_limit",
    "tenant_limit",
    "stream_limit",
    "memory_bytes",
    "max_concurrent",
    "max_concurrent_per_peer",
    "max_connections",
)
"""Limits of the whole gateway. What is not here holds for one request, or for one process."""


def portion(settings: Settings, place: Place | None) -> Settings:
    """The settings of one process: its part of the limits, and a metrics page of its own on the ports that follow."""
    if place is None:
        return settings
    parts = {field: -(-getattr(settings, field) // place.count) for field in DIVIDED}
    return replace(settings, metrics_listen=_following(settings.metrics_listen, place.number - 1), **parts)


def _following(listen: str, by: int) -> str:
    host, colon, port = listen.rpartition(":")
    return f"{host}:{int(port) + by}" if colon and port.isdecimal() and int(port) else listen
