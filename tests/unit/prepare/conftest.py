"""A small classifier that was really trained, and data that it has not seen."""

from __future__ import annotations

import pytest

import cloister.prepare  # noqa: F401  # before OpenVINO: nothing that is done here is told to anybody
from fakes import digits


@pytest.fixture(scope="session")
def trained() -> digits.Trained:
    return digits.trained()
