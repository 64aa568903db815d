"""Calls that wait for one model: tenants take turns, each of them first come first served.

Deficit round robin (Shreedhar and Varghese, 1995): a tenant whose turn it is may send what its credit covers, and gets
its share of new credit when it does not cover the next call. A request costs 1, a large one more, so who sends large
requests has fewer turns. However many calls a tenant has waiting, another's first waits for one turn of each tenant.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cloister.gateway.call import Call

COST_BYTES: Final = 256 << 10
MAX_COST: Final = 16
"""Bounds the rounds that pass until anybody's credit covers a call."""


def cost(call: Call) -> int:
    """What a call costs of its tenant's credit, by its size; all calls of one queue are for the same model."""
    return min(1 + len(call.request) // COST_BYTES, MAX_COST)


class _Line:
    """What waits of one tenant, oldest first."""

    __slots__ = ("calls", "credit", "share")

    def __init__(self, share: int) -> None:
        self.calls: OrderedDict[Call, None] = OrderedDict()
        self.share = self.credit = share


class FairQueue:
    """One queue.

    Args:
        late: Told of each call whose deadline passed here; it is in the queue no longer.
    """

    def __init__(self, late: Callable[[Call, float], None]) -> None:
        self._late = late
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def by_tenant(self) -> Iterator[tuple[str, int]]:
        """Yield each tenant that has calls here, and how many."""
        return ((tenant, len(line.calls)) for tenant, line in self._lines.items())

    def append(self, call: Call) -> None:
        """Let a call wait behind its tenant's others; a tenant that had none comes after all who have."""
        line = self._lines.get(call.tenant)
        if line is None:
            line = self._lines[call.tenant] = _Line(call.share)
        line.share = call.share
        line.calls[call] = None
        self._count += 1

    def put_back(self, calls: Iterable[Call]) -> None:
        """Put calls that have waited before, oldest first, before everything that waits."""
        for call in reversed(list(calls)):
            self.append(call)
            self._lines[call.tenant].calls.move_to_end(call, last=False)
            self._lines.move_to_end(call.tenant, last=False)

    def remove(self, call: Call) -> bool:
        """Forget a call; say whether it waited."""
        line = self._lines.get(call.tenant)
        if line is None or call not in line.calls:
            return False
        del line.calls[call]
        self._count -= 1
        if not line.calls:
            del self._lines[call.tenant]
        return True

    def take(self, may_have: Callable[[Call], bool], now_s: float) -> Call | None:
        """Take the next call that `may_have` takes, in fair order; None when there is none."""
        passed = 0
        while passed < len(self._lines):
            tenant, line = next(iter(self._lines.items()))
            call = self._first(line, may_have, now_s)
            if not line.calls:
                del self._lines[tenant]
            elif call is None:
                passed += 1
                self._lines.move_to_end(tenant)
            elif line.credit < cost(call):
                passed = 0
                line.credit += line.share
                self._lines.move_to_end(tenant)
            else:
                line.credit -= cost(call)
                self.remove(call)
                return call
        return None

    def take_all(self) -> list[Call]:
        """Take everything, in fair order."""
        taken: list[Call] = []
        while (call := self.take(lambda _: True, float("-inf"))) is not None:
            taken.append(call)
        return taken

    def take_late(self, now_s: float) -> None:
        """Let those go whose time is up."""
        for tenant, line in list(self._lines.items()):
            self._first(line, lambda _: False, now_s)
            if not line.calls:
                del self._lines[tenant]

    def _first(self, line: _Line, may_have: Callable[[Call], bool], now_s: float) -> Call | None:
        """The oldest call that is still wanted and may be had; those whose time is up leave on the way."""
        late: list[Call] = []
        found = None
        for call in line.calls:
            if call.deadline_s <= now_s:
                late.append(call)
            elif may_have(call):
                found = call
                break
        for call in late:
            del line.calls[call]
            self._count -= 1
            self._late(call, now_s)
        return found

    def has(self, tenant: str) -> bool:
        """Whether a tenant has a call waiting."""
        return tenant in self._lines

    def ahead_of(self, tenant: str) -> int:
        """Return how many calls are sent before one that a tenant adds now, at most, if every call costs the same."""
        own = self._lines.get(tenant)
        if own is None:
            return sum(min(len(line.calls), line.share) for line in self._lines.values())
        turns = len(own.calls) // own.share + 1
        return sum(
            len(line.calls) if line is own else min(len(line.calls), turns * line.share)
            for line in self._lines.values()
        )

    def pushed_out_by(self, tenant: str) -> Call | None:
        """Take the last call of whoever has the most waiting, if it is so many that a tenant's next deserves its place.

        Without this, whoever fills a queue first keeps all others out of it.
        """
        longest = max(self._lines.values(), key=lambda line: len(line.calls) / line.share, default=None)
        own = self._lines.get(tenant)
        if longest is None or longest is own:
            return None
        next_own = (len(own.calls) + 1) / own.share if own is not None else 1
        if (len(longest.calls) - 1) / longest.share < next_own:
            return None
        call = next(reversed(longest.calls))
        self.remove(call)
        return call
