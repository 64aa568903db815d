"""What the worker logs, as a production process would write it."""

import io
import logging

import pytest
import structlog

from cloister.kit import log


@pytest.fixture
def logged():
    """The log of the test, as JSON lines."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    log.configure("worker", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level
