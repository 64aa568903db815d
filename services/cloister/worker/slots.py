"""How many calls of each model one gateway has under way: a slow model fills its own slots, not a quick one's."""

from __future__ import annotations

from collections import Counter

from cloister.errors import Overloaded


class Slots:
    """The slots of one link.

    Args:
        each: How many each model has.
    """

    def __init__(self, each: int) -> None:
        self.each = each
        self._model_of: dict[int, str] = {}
        self._used: Counter[str] = Counter()

    def take(self, call_id: int, model: str) -> None:
        """Take one for a call; raises Overloaded where the model has none left."""
        if self._used[model] >= self.each:
            raise Overloaded("the gateway has no slot for this call", reason="slots.full")
        self._model_of[call_id] = model
        self._used[model] += 1

    def free(self, call_id: int) -> None:
        """Give a call's slot back, if it has one."""
        model = self._model_of.pop(call_id, None)
        if model is not None:
            self._used[model] -= 1
            if not self._used[model]:
                del self._used[model]
