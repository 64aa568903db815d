"""How much one tenant has under way. Who is whose tenant says `directory`, by verified identities and nothing else."""

from __future__ import annotations

from typing import Final

from cloister.errors import Overloaded
from cloister.gateway.bucket import Bucket
from cloister.gateway.limits import Limits, TenantLimits

_SWEEP_AT: Final = 1024


class _Held:
    """What one tenant has."""

    __slots__ = ("bucket", "calls", "limits", "size_bytes")

    def __init__(self, limits: TenantLimits) -> None:
        self.limits = limits
        self.calls = 0
        self.size_bytes = 0
        self.bucket = Bucket(limits.rate, limits.burst) if limits.rate else None

    def change(self, limits: TenantLimits) -> None:
        """Go by other limits; tokens that were taken at the same rate stay taken."""
        if (limits.rate, limits.burst) != (self.limits.rate, self.limits.burst):
            self.bucket = Bucket(limits.rate, limits.burst) if limits.rate else None
        self.limits = limits


class Tenants:
    """Counts the unanswered calls (or the open streams) of each tenant, so that none of them can fill the gateway.

    Args:
        limits: Of each tenant.
        total_bytes: Most bytes of unanswered requests of all tenants; one of them may hold half.
    """

    def __init__(self, limits: Limits[TenantLimits], total_bytes: int) -> None:
        self._limits = limits
        self._total_bytes = total_bytes
        self._bytes = 0
        self._held: dict[str, _Held] = {}
        self._sweep_at = _SWEEP_AT

    def use(self, limits: Limits[TenantLimits]) -> None:
        """Go by other limits from now on; what tenants have under way counts on."""
        self._limits = limits
        for name, held in self._held.items():
            held.change(limits.of(name))

    def enter(self, tenant: str, size_bytes: int, now_s: float) -> None:
        """Count one more call; `leave` must follow.

        Raises:
            Overloaded: The tenant, or the gateway, has no room for it (`tenant.busy`, `gateway.full`), or the tenant
                asks more often than it may (`tenant.too_fast`).
        """
        held = self._held.get(tenant) or self._arrived(tenant, now_s)
        if held.calls >= held.limits.calls:
            raise Overloaded("you have too much under way", reason="tenant.busy")
        if held.calls and held.size_bytes + size_bytes > self._total_bytes // 2:
            raise Overloaded("you have too many bytes under way", reason="tenant.busy")
        if self._bytes and self._bytes + size_bytes > self._total_bytes:
            raise Overloaded("the gateway holds as many bytes as it may", reason="gateway.full")
        if held.bucket is not None and (wait_s := held.bucket.take(now_s)):
            raise Overloaded("you ask more often than you may", reason="tenant.too_fast", retry_after_s=wait_s)
        self._held[tenant] = held
        self._bytes += size_bytes
        held.calls += 1
        held.size_bytes += size_bytes

    def take(self, tenant: str, most: int, now_s: float) -> tuple[int, float]:
        """Count more that a tenant asks for in a call that was let in, as far as its rate goes.

        Returns:
            How many of them it may ask for now, and in how many seconds another, 0 where that was all.
        """
        bucket = self._held[tenant].bucket
        if bucket is None:
            return most, 0.0
        for taken in range(most):
            if wait_s := bucket.take(now_s):
                return taken, wait_s
        return most, 0.0

    def leave(self, tenant: str, size_bytes: int) -> None:
        """Count one call less; a tenant without calls is forgotten, unless it has a rate to keep to."""
        held = self._held[tenant]
        if not held.calls:
            raise KeyError(tenant)
        self._bytes -= size_bytes
        held.calls -= 1
        held.size_bytes -= size_bytes
        if not held.calls and held.bucket is None:
            del self._held[tenant]

    def share(self, tenant: str) -> int:
        """Return how many turns a tenant has in each round of a queue."""
        held = self._held.get(tenant)
        return held.limits.share if held is not None else 1

    def under_way(self, tenant: str) -> int:
        """Return how many calls of a tenant are unanswered."""
        held = self._held.get(tenant)
        return held.calls if held is not None else 0

    def busy(self) -> dict[str, int]:
        """Return how many calls each tenant has unanswered, of those that have any."""
        return {tenant: held.calls for tenant, held in list(self._held.items()) if held.calls}

    def _arrived(self, tenant: str, now_s: float) -> _Held:
        """Begin to count a tenant; now and then forget those that have nothing, and whose bucket is full again."""
        if len(self._held) >= self._sweep_at:
            kept = {name: held for name, held in self._held.items() if held.calls or not _replenished(held, now_s)}
            self._held, self._sweep_at = kept, max(_SWEEP_AT, 2 * len(kept))
        return _Held(self._limits.of(tenant))


def _replenished(held: _Held, now_s: float) -> bool:
    return held.bucket is None or held.bucket.full(now_s)
