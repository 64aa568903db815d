"""One mesh PKI for the module, and the echo server as a fixture."""

from __future__ import annotations

import pytest

from fakes.pki import MeshPki


@pytest.fixture(scope="session")
def pki() -> MeshPki:
    return MeshPki()
