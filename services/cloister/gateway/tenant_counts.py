"""How many requests of each tenant ended, and how: so many tenants by name and no more."""

from __future__ import annotations

from cloister.gateway.refusals import bounded


class TenantCounts:
    """Counts since the gateway began.

    Attributes:
        answered: By tenant.
        failed: By tenant; those that were refused, and those that nobody waited for, included.
    """

    def __init__(self) -> None:
        self.answered: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self._names: set[str] = set()

    def ended(self, tenant: str, *, answered: bool) -> None:
        """Count one request."""
        name = tenant if tenant in self._names else bounded(tenant, self._names)
        counts = self.answered if answered else self.failed
        counts[name] = counts.get(name, 0) + 1
