"""The fake store does what the real one does (tests/wire/gateway/jobs/test_contract.py)."""

from __future__ import annotations

import pytest

from fakes.job_store import MemoryJobStore, Shelf
from fakes.job_store_contract import JobStoreContract
from fakes.run_jobs import now_ms


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def store(shelf: Shelf) -> MemoryJobStore:
    return MemoryJobStore(shelf, now_ms, "one")


@pytest.fixture
async def other(shelf: Shelf) -> MemoryJobStore:
    return MemoryJobStore(shelf, now_ms, "two")


class TestMemoryJobStore(JobStoreContract):
    """See the contract."""
