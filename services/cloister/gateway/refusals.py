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
        by_tenant: SPIFFE id and reason.
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
            tenant: SPIFFE id of the client.
            model: A model that is served, or empty: a client may make up any name.
        """
        if not isinstance(error, (Overloaded, TimeoutError)):
            return
        reason = reason_of(error)
        of_model, of_tenant = (_known(model or OTHER, self._models), reason), (_known(tenant, self._tenants), reason)
        self.by_model[of_model] = self.by_model.get(of_model, 0) + 1
        self.by_tenant[of_tenant] = self.by_tenant.get(of_tenant, 0) + 1


def _known(name: str, names: set[str]) -> str:
    """The name, as long as there are not too many of them."""
    if name not in names:
        if len(names) >= MAX_NAMES:
            return OTHER
        names.add(name)
    return name
