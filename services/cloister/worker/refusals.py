"""Why a model is not served: in full for its owner, and in words that say nothing of the model for everybody else.

What a worker says of a model that it refuses goes into its log and to its gateways, and both are of hosts that may know
nothing of a sealed model: no operation, no tensor, no shape. So the message of a refusal follows from its reason alone.
The rest is `ModelRefused.why`, which nothing in a worker reads: `cloister model check` and `seal` look at a model in
the same way on the owner's own machine, and tell it there.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from cloister.errors import InvalidRequest

_SENTENCES: Final = MappingProxyType(
    {
        "model.refused": "the model is refused: it holds, or asks for, what workers do not serve",
        "model.operation_unsafe": "the model is refused: an operation in it may reach beyond its data",
        "model.shape_unbounded": "the model is refused: a size in it has no bound",
    }
)


class ModelRefused(InvalidRequest):
    """A model is not served, because of what it is.

    Args:
        why: What is wrong with it, for its owner.
        reason: One of three; the message follows from it.

    Attributes:
        why: As given. It names parts of the model: no log, gateway or client is told.
    """

    def __init__(self, why: str, *, reason: str) -> None:
        super().__init__(_SENTENCES[reason], reason=reason)
        self.why = why


def refused(why: str) -> ModelRefused:
    """It holds, or asks for, what the worker does not serve."""
    return ModelRefused(why, reason="model.refused")


def unsafe(why: str) -> ModelRefused:
    """An operation reaches wherever a request says, or is not known not to."""
    return ModelRefused(why, reason="model.operation_unsafe")


def unbounded(kind: str) -> ModelRefused:
    """A size has no bound that follows from the shapes of the inputs."""
    return ModelRefused(f"the size of what {kind} gives depends on values", reason="model.shape_unbounded")
