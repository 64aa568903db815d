"""Why a model is not served, in the words that its owner reads."""

from __future__ import annotations

from cloister.errors import InvalidRequest


def refused(why: str) -> InvalidRequest:
    """It holds, or asks for, what the worker does not serve."""
    return InvalidRequest(f"the model is refused: {why}", reason="model.refused")


def unsafe(why: str) -> InvalidRequest:
    """An operation reaches wherever a request says, or is not known not to."""
    return InvalidRequest(f"the model is refused: {why}", reason="model.operation_unsafe")


def unbounded(kind: str) -> InvalidRequest:
    """A size has no bound that follows from the shapes of the inputs."""
    why = f"the size of what {kind} gives depends on values"
    return InvalidRequest(f"the model is refused: {why}", reason="model.shape_unbounded")
