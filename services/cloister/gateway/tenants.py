"""How much one tenant may have under way. A tenant is the SPIFFE id of a verified client certificate, nothing else."""

from __future__ import annotations

from cloister.errors import Overloaded


class Tenants:
    """Counts the unanswered calls (or the open streams) of each tenant, so that none of them can fill the gateway.

    Args:
        call_limit: Most unanswered calls of one tenant.
        total_bytes: Most bytes of unanswered requests of all tenants; one of them may hold half.
    """

    def __init__(self, call_limit: int, total_bytes: int) -> None:
        self._call_limit = call_limit
        self._total_bytes = total_bytes
        self._bytes = 0
        self._held: dict[str, tuple[int, int]] = {}

    def enter(self, tenant: str, size_bytes: int) -> None:
        """Count one more call; `leave` must follow.

        Raises:
            Overloaded: The tenant, or the gateway, has no room for it.
        """
        calls, held_bytes = self._held.get(tenant, (0, 0))
        if calls >= self._call_limit or (calls and held_bytes + size_bytes > self._total_bytes // 2):
            raise Overloaded("you have too much under way", reason="tenant.busy")
        if self._bytes and self._bytes + size_bytes > self._total_bytes:
            raise Overloaded("the gateway holds as many bytes as it may", reason="gateway.full")
        self._bytes += size_bytes
        self._held[tenant] = (calls + 1, held_bytes + size_bytes)

    def leave(self, tenant: str, size_bytes: int) -> None:
        """Count one call less; a tenant without calls is forgotten."""
        calls, held_bytes = self._held[tenant]
        self._bytes -= size_bytes
        if calls > 1:
            self._held[tenant] = (calls - 1, held_bytes - size_bytes)
        else:
            del self._held[tenant]

    def under_way(self, tenant: str) -> int:
        """Return how many calls of a tenant are unanswered."""
        return self._held.get(tenant, (0, 0))[0]
