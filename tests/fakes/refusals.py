"""For `pytest.raises(ModelRefused, check=...)`: what the owner of a refused model is told."""

from collections.abc import Callable

from cloister.worker.refusals import ModelRefused


def because(words: str) -> Callable[[ModelRefused], bool]:
    """Whether a model is refused for what these words say."""
    return lambda refusal: words in refusal.why
