"""How many requests were refused for want of room or time, by model, tenant and reason: so many counts and no more."""

from __future__ import annotations

from typing import Final

from cloister.errors import CloisterError, Overloaded
from cloister.rpc.status import reason_of

MAX_NAMES: Final = 1000
OTHER: Final = "other"
"""Stands for all models that nobody serves, and for models and tenants beyond `MAX_NAMES`."""


class Refusals:
    """Counts since the gateway began.

    Attributes:
        by_model: Name and reason.
        by_tenant: Name and reason.
    """

    def __init__(self) -> None:
        self.by_model: dict[tuple[str, str], int] = {}
        self.by_tenant: dict[tuple[str, str], int] = {}
        self._models: set[str] = set()
        self._tenants: set[str] = set()

    def note(self, error: CloisterError | TimeoutError, tenant: str, model: str) -> None:
        """Count an error, if it is a refusal.

        Args:
            error: What the client is told.
            tenant: Name of the tenant.
            model: A model that is served, or empty: a client may make up any name.
        """
        if not isinstance(error, (Overloaded, TimeoutError)):
            return
        reason = reason_of(error)
        of_model, of_tenant = (bounded(model or OTHER, self._models), reason), (bounded(tenant, self._tenants), reason)
        self.by_model[of_model] = self.by_model.get(of_model, 0) + 1
        self.by_tenant[of_tenant] = self.by_tenant.get(of_tenant, 0) + 1


def bounded(name: str, names: set[str]) -> str:
    """The name, which is added to the others as long as there are not too many of them; else `OTHER`."""
    if name not in names:
        if len(names) >= MAX_NAMES:
            return OTHER
        names.add(name)
    return name
