"""What one of several processes of a gateway may hold of the limits that its settings name for all of them.

The processes share a port and nothing else: a tenant's calls come to whichever process the kernel gave its connection
to, and no process knows of the others' calls. So each enforces its equal part of every limit, rounded up, also of
those that a tenant or a model has of its own. A tenant with connections to all processes has the whole limit; one with
a single connection has one part of it. HTTPS has processes and limits of its own, so that a crowd there takes nothing
from gRPC; so have jobs.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from cloister.gateway.limits import LEAST_RATE, ModelTable, TenantTable
from cloister.gateway.settings import Settings
from cloister.kit.shared_port import Place

REST: Final = "rest"
"""The face that answers HTTPS."""
RUNNER: Final = "jobs"
"""The face that nobody calls: it gives jobs to workers."""
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
OPTIONAL: Final = ("tenant_burst", "model_slots", "model_burst")
"""Likewise; 0 is none, and so is a part of it."""
RATES: Final = ("tenant_rate", "model_rate")
LISTENS: Final = ("metrics_listen", "operator_listen")
"""Addresses that each process has for itself, on the ports that follow."""
T = TypeVar("T", TenantTable, ModelTable)


def portion(settings: Settings, place: Place | None) -> Settings:
    """The settings of one process: its part of the limits, and listeners of its own on the ports that follow."""
    if place is None:
        return settings
    before = 0 if not place.face else settings.processes
    if place.face == RUNNER and settings.rest_listen:
        before += settings.rest_processes
    listen = settings.rest_listen if place.face == REST else settings.listen
    parts: dict[str, Any] = {field: -(-getattr(settings, field) // place.count) for field in (*DIVIDED, *OPTIONAL)}
    rates = {field: _rate(getattr(settings, field), place.count) for field in RATES}
    models = {name: part_of(table, place.count) for name, table in settings.models.items()}
    parts.update(rates, models=models)
    parts |= {field: _following(getattr(settings, field), before + place.number - 1) for field in LISTENS}
    return replace(settings, listen=listen, **parts)


def part_of(table: T, count: int) -> T:
    """A part of what one tenant or model has of its own; a share of turns is no amount."""
    given = {field.name: getattr(table, field.name) for field in fields(table)}
    whole = {name: -(-value // count) for name, value in given.items() if isinstance(value, int) and name != "share"}
    part: T = replace(table, **whole, rate=None if table.rate is None else _rate(table.rate, count))
    return part


def _rate(rate: float, count: int) -> float:
    return max(rate / count, LEAST_RATE) if rate else 0.0


def _following(listen: str, by: int) -> str:
    host, colon, port = listen.rpartition(":")
    return f"{host}:{int(port) + by}" if colon and port.isdecimal() and int(port) else listen
