"""How much one tenant, and how much one model, may have: what the settings say, for each by its name.

A limit that is 0 is none. Whose limits count, an identity says that was verified (`directory`); nothing that a client
writes into a request changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Generic, TypeVar

LEAST_RATE: Final = 0.001
LARGEST_RATE: Final = 1e6
LARGEST_COUNT: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """Of one tenant.

    Attributes:
        calls: Most calls without an answer, waiting ones included.
        rate: Most requests a second in the long run.
        burst: How many at once after a pause; 0 for what `rate` gives in a second.
        share: Turns in each round of a queue, where others take one.
    """

    calls: int
    rate: float = 0.0
    burst: int = 0
    share: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """Of one model, all tenants together.

    Attributes:
        queue: Most calls that wait.
        slots: Most slots of workers that its calls hold at once.
        rate: Most requests a second in the long run.
        burst: How many at once after a pause; 0 for what `rate` gives in a second.
    """

    queue: int
    slots: int = 0
    rate: float = 0.0
    burst: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantTable:
    """What differs, for a tenant of the tenants file, from every tenant's limits."""

    calls: int | None = None
    rate: float | None = None
    burst: int | None = None
    share: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """`[models."name"]` in the settings: what differs from every model's limits."""

    queue: int | None = None
    slots: int | None = None
    rate: float | None = None
    burst: int | None = None


L = TypeVar("L", TenantLimits, ModelLimits)


class Limits(Generic[L]):
    """The limits of each name: its own where it has some, else everybody's.

    Args:
        usual: Everybody's.
        tables: What differs, by name.
        whose: Before the name of one of everybody's in an error.

    Raises:
        ValueError: A number makes no sense; it names which.
    """

    def __init__(self, usual: L, tables: Mapping[str, TenantTable | ModelTable] | None = None, whose: str = "") -> None:
        _check(whose, usual)
        self._usual: L = usual
        self._own: dict[str, L] = {name: _merged(usual, table) for name, table in (tables or {}).items()}
        for name, own in self._own.items():
            _check(f"{name}: ", own)

    def of(self, name: str) -> L:
        """Return what holds for a name."""
        return self._own.get(name, self._usual)


def _merged(usual: L, table: TenantTable | ModelTable) -> L:
    given = {field.name: getattr(table, field.name) for field in fields(table)}
    merged: L = replace(usual, **{name: value for name, value in given.items() if value is not None})
    return merged


def _check(whose: str, limits: Any) -> None:
    for name in ("calls", "queue", "share"):
        if not 1 <= getattr(limits, name, 1) <= LARGEST_COUNT:
            raise ValueError(f"{whose}{name} must be from 1 to {LARGEST_COUNT}")
    for name in ("slots", "burst"):
        if not 0 <= getattr(limits, name, 0) <= LARGEST_COUNT:
            raise ValueError(f"{whose}{name} must be from 0 to {LARGEST_COUNT}")
    if limits.rate and not LEAST_RATE <= limits.rate <= LARGEST_RATE:
        raise ValueError(
            f"{whose}rate must be 0 for none, or from {LEAST_RATE} to {LARGEST_RATE:.0f} requests a second"
        )
    if limits.burst and not limits.rate:
        raise ValueError(f"{whose}burst means nothing without a rate")
