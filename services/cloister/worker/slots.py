"""How many calls of each model one gateway has under way: a slow model fills its own slots, not a quick one's."""

from __future__ import annotations

from collections import Counter

from cloister.errors import Overloaded
from cloister.worker.shares import Share


class Slots:
    """The slots of one link.

    Args:
        each: How many a model has on any link. More than the link is granted, since a gateway may have sent a call
            before it heard that it is granted less now.
        share: Told of what is used most, that of any one model.
    """

    def __init__(self, each: int, share: Share) -> None:
        self.each = each
        self._share = share
        self._model_of: dict[int, str] = {}
        self._used: Counter[str] = Counter()

    @property
    def granted(self) -> int:
        """How many of each model the gateway may have under way now."""
        return self._share.granted

    def take(self, call_id: int, model: str) -> None:
        """Take one for a call; raises Overloaded where the model has none left."""
        if self._used[model] >= self.each:
            raise Overloaded("the gateway has no slot for this call", reason="slots.full")
        self._model_of[call_id] = model
        self._used[model] += 1
        self._share.use(max(self._share.under_way, self._used[model]))

    def free(self, call_id: int) -> None:
        """Give a call's slot back, if it has one."""
        model = self._model_of.pop(call_id, None)
        if model is not None:
            self._used[model] -= 1
            if not self._used[model]:
                del self._used[model]
            self._share.use(max(self._used.values(), default=0))
