"""How many calls of each model one gateway has under way: a slow model fills its own slots, not a quick one's."""

from __future__ import annotations

from collections import Counter

from cloister.errors import Overloaded
from cloister.worker.shares import Share


class Slots:
    """The slots of one link.

    A slot holds one call, or several of a model whose calls are quick (`Engine.calls_per_slot`).

    Args:
        each: How many a model has on any link. More than the link is granted, since a gateway may have sent a call
            before it heard that it is granted less now.
        share: Told of what is used most, that of any one model.
    """

    def __init__(self, each: int, share: Share) -> None:
        self.each = each
        self._share = share
        self._model_of: dict[int, str] = {}
        self._calls: Counter[str] = Counter()
        self._per_slot: dict[str, int] = {}

    @property
    def granted(self) -> int:
        """How many of each model the gateway may have under way now."""
        return self._share.granted

    def take(self, call_id: int, model: str, calls_per_slot: int = 1) -> None:
        """Take room for a call; raises Overloaded where the model has none left."""
        if self._calls[model] >= self.each * calls_per_slot:
            raise Overloaded("the gateway has no slot for this call", reason="slots.full")
        self._model_of[call_id] = model
        self._calls[model] += 1
        self._per_slot[model] = calls_per_slot
        self._share.use(max(self._share.under_way, self._used(model)))

    def free(self, call_id: int) -> None:
        """Give a call's room back, if it has any."""
        model = self._model_of.pop(call_id, None)
        if model is not None:
            self._calls[model] -= 1
            if not self._calls[model]:
                del self._calls[model], self._per_slot[model]
            self._share.use(max(map(self._used, self._calls), default=0))

    def _used(self, model: str) -> int:
        return -(-self._calls[model] // self._per_slot[model])
