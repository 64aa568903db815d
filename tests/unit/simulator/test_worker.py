"""The worker command hands the worker a simulated quoter, and changes nothing else about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from typer.testing import CliRunner

import cloister.worker.__main__
import cloister.worker.app
from cloister.errors import InvalidRequest
from cloister.evidence.quoter import Quoter
from cloister.kit.environment import TLS_ENVIRONMENT
from cloister.worker.settings import Settings
from cloister_simulator import cli, store, worker
from cloister_simulator.measurement import worker_measurement
from cloister_simulator.recipe import ATTRIBUTE_DEBUG
from fakes.sim import library_verdict, simulated_platform

REPORT_DATA = bytes(range(64))


class FakeProcess:
    """Stands for `run_service` and the worker below it: remembers how each was called, and quotes once."""

    def __init__(self) -> None:
        self.name = ""
        self.argv: Sequence[str] = ()
        self.in_enclave = False
        self.settings_class: type = object
        self.quote = b""
        self.begun: list[str] = []

    def run_service(
        self,
        name: str,
        serve: Callable[[Any, Any], Awaitable[None]],
        settings: type,
        *,
        argv: Sequence[str],
        in_enclave: bool,
    ) -> int:
        self.name, self.argv, self.in_enclave, self.settings_class = name, argv, in_enclave, settings
        asyncio.run(serve(object(), object()))  # type: ignore[arg-type]  # an async def in this program
        return 7

    async def serve(self, settings: object, lifecycle: object, quoter: Quoter) -> None:
        self.quote = await quoter.quote(REPORT_DATA)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    fake = FakeProcess()
    for name, value in TLS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(worker, "begin", fake.begun.append)
    monkeypatch.setattr(worker, "run_service", fake.run_service)
    monkeypatch.setattr(cloister.worker.app, "serve", fake.serve)
    return fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    CliRunner().invoke(cli.app, ["init", str(tmp_path / "sim")], catch_exceptions=False)
    return tmp_path / "sim"


def run(folder: Path, *more: str) -> int:
    return CliRunner().invoke(cli.app, ["worker", "--settings", "w.toml", "--platform", str(folder), *more]).exit_code


def test_the_worker_is_run_as_its_own_program_runs_it(
    process: FakeProcess, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(folder) == 7
    assert (process.name, process.in_enclave, process.settings_class) == ("worker", True, Settings)
    assert list(process.argv) == ["--settings", "w.toml"]
    seen: dict[str, Any] = {}
    monkeypatch.setattr(cloister.worker.__main__, "begin", process.begun.append)
    monkeypatch.setattr(
        cloister.worker.__main__, "run_service", lambda *positional, **named: seen.update(named, all=positional) or 0
    )
    cloister.worker.__main__.main()
    assert (seen["all"][0], seen["in_enclave"], seen["all"][2]) == ("worker", True, Settings)
    assert process.begun == ["worker", "worker"]


def test_it_quotes_what_was_measured_on_the_platform_it_was_given(process: FakeProcess, folder: Path) -> None:
    run(folder)
    report = dcap_qvl.parse_quote(process.quote).report
    assert (report.mr_enclave, report.mr_signer) == (worker_measurement().mrenclave, worker_measurement().mrsigner)
    assert report.report_data == REPORT_DATA
    platform = store.load(folder, simulated_platform().window.issued_at)
    collateral = (folder / "collateral.json").read_bytes()
    assert library_verdict(platform, quote=process.quote, collateral=collateral) == ("UpToDate", [])


def test_it_can_claim_to_be_another_enclave(process: FakeProcess, folder: Path) -> None:
    run(folder, "--mrenclave", "ab" * 32)
    assert dcap_qvl.parse_quote(process.quote).report.mr_enclave == b"\xab" * 32


def test_it_can_claim_to_be_a_debug_enclave(process: FakeProcess, folder: Path) -> None:
    run(folder, "--debug-enclave")
    assert dcap_qvl.parse_quote(process.quote).report.attributes[0] & ATTRIBUTE_DEBUG


@pytest.mark.parametrize("text", ["", "ab", "ab" * 33, "zz" * 32])
def test_a_measurement_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="64 hex digits"):
        worker.claimed_measurement(worker_measurement(), mrenclave=text, debug=False)
