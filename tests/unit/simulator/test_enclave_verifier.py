"""Inside an enclave the simulated mesh's verifier is the service alone, with quotes from the attestation files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import cloister.verifier.app
from cloister.evidence.gramine import GramineQuoter
from cloister.evidence.quoter import Quoter
from cloister.kit.lifecycle import TLS_ENVIRONMENT
from cloister.verifier.settings import Settings
from cloister_simulator import enclave_verifier


class FakeProcess:
    """Stands for `run_service` and the verifier below it: remembers how each was called."""

    def __init__(self) -> None:
        self.called: tuple[object, ...] = ()
        self.quoter: Quoter | None = None

    def run_service(self, name: str, serve: Callable[[Any, Any], Awaitable[None]], settings: type) -> int:
        self.called = (name, settings)
        asyncio.run(serve(object(), object()))  # type: ignore[arg-type]  # an async def in this program
        return 7

    async def serve(self, settings: object, lifecycle: object, quoter: Quoter) -> None:
        self.quoter = quoter


def test_it_is_the_verifier_with_quotes_from_its_attestation_files(monkeypatch: pytest.MonkeyPatch) -> None:
    process = FakeProcess()
    for name, value in TLS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(enclave_verifier, "run_service", process.run_service)
    monkeypatch.setattr(cloister.verifier.app, "serve", process.serve)
    assert enclave_verifier.main() == 7
    assert process.called == ("verifier", Settings)
    assert isinstance(process.quoter, GramineQuoter)
