"""What a service logs, as a production process would write it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from cloister.kit import log


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """The log of the test, as JSON lines."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    log.configure("worker", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level
