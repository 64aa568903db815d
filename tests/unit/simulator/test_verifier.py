"""The verifier command hands the verifier a simulated quoter, and changes nothing else about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from typer.testing import CliRunner

import cloister.verifier.app
from cloister.evidence.quoter import Quoter
from cloister.kit.environment import TLS_ENVIRONMENT
from cloister.verifier.settings import Settings
from cloister_simulator import cli, verifier
from cloister_simulator.measurement import verifier_measurement, worker_measurement
from cloister_simulator.recipe import ATTRIBUTE_DEBUG

REPORT_DATA = bytes(range(64))


class FakeProcess:
    """Stands for `run_service` and the verifier below it: remembers how each was called, and quotes once."""

    def __init__(self) -> None:
        self.called: tuple[object, ...] = ()
        self.quote = b""
        self.begun: list[str] = []

    def run_service(
        self, name: str, serve: Callable[[Any, Any], Awaitable[None]], settings: type, *, argv: Sequence[str]
    ) -> int:
        self.called = (name, settings, list(argv))
        asyncio.run(serve(object(), object()))  # type: ignore[arg-type]  # an async def in this program
        return 7

    async def serve(self, settings: object, lifecycle: object, quoter: Quoter) -> None:
        self.quote = await quoter.quote(REPORT_DATA)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    fake = FakeProcess()
    for name, value in TLS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(verifier, "begin", fake.begun.append)
    monkeypatch.setattr(verifier, "run_service", fake.run_service)
    monkeypatch.setattr(cloister.verifier.app, "serve", fake.serve)
    return fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    CliRunner().invoke(cli.app, ["init", str(tmp_path / "sim")], catch_exceptions=False)
    return tmp_path / "sim"


def run(folder: Path, *more: str) -> int:
    words = ["verifier", "--settings", "v.toml", "--platform", str(folder), *more]
    return CliRunner().invoke(cli.app, words).exit_code


def test_the_verifier_is_run_with_quotes_of_its_own_measurement(process: FakeProcess, folder: Path) -> None:
    assert run(folder) == 7
    assert process.called == ("verifier", Settings, ["--settings", "v.toml"])
    report = dcap_qvl.parse_quote(process.quote).report
    assert report.mr_enclave == verifier_measurement().mrenclave
    assert report.report_data == REPORT_DATA


def test_it_can_claim_to_be_another_enclave_or_a_debug_one(process: FakeProcess, folder: Path) -> None:
    run(folder, "--mrenclave", "ab" * 32, "--debug-enclave")
    report = dcap_qvl.parse_quote(process.quote).report
    assert report.mr_enclave == b"\xab" * 32
    assert report.attributes[0] & ATTRIBUTE_DEBUG


def test_measure_tells_the_services_apart() -> None:
    printed = json.loads(CliRunner().invoke(cli.app, ["measure", "verifier", "--json"]).stdout)
    assert printed["mrenclave"] == verifier_measurement().mrenclave.hex()
    assert printed["simulated"] is True
    assert verifier_measurement().mrenclave != worker_measurement().mrenclave
