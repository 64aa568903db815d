"""One task group per service: what ends it, and with which exit code. Whole processes are in tests/wire/rpc."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from cloister.errors import EvidenceRejected, InvalidRequest, NotReady
from cloister.kit.config import settings_error
from cloister.kit.lifecycle import BAD_SETTINGS, CLEAN, FAILED, REFUSED, Lifecycle, run_service
from cloister.worker.clock import ClockJumped


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    mode: str = "clean"
    log_json: bool = True


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    structlog.reset_defaults()
    root.handlers[:] = before[0]
    root.setLevel(before[1])


async def forever() -> None:
    await asyncio.Event().wait()


async def failing(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def test_tasks_end_with_the_block() -> None:
    async with Lifecycle.running() as lifecycle:
        task = lifecycle.spawn(forever(), "forever")
        await asyncio.sleep(0)
    assert task.cancelled()
    assert lifecycle.stopping.is_set()


async def test_a_task_that_fails_ends_the_block_with_its_error() -> None:
    async def service() -> None:
        async with Lifecycle.running() as lifecycle:
            lifecycle.spawn(failing(NotReady("gone")), "failing")
            await forever()

    with pytest.raises(NotReady, match="gone"):
        await service()


async def test_the_blocks_own_error_leaves_it_as_it_is() -> None:
    async def service() -> None:
        async with Lifecycle.running() as lifecycle:
            lifecycle.spawn(forever(), "forever")
            raise KeyError("x")

    with pytest.raises(KeyError):
        await service()


async def test_cancellation_passes_through() -> None:
    async def service() -> None:
        async with Lifecycle.running() as lifecycle:
            lifecycle.spawn(forever(), "forever")
            started.set()
            await forever()

    started = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(service())
        await started.wait()
        task.cancel()
    assert task.cancelled()


async def test_a_signal_asks_to_stop() -> None:
    async with Lifecycle.running(signals=(signal.SIGUSR1,)) as lifecycle:
        signal.raise_signal(signal.SIGUSR1)
        async with asyncio.timeout(5):
            await lifecycle.stopping.wait()


async def test_what_is_under_way_is_given_up_when_the_service_is_to_end() -> None:
    async def stop(lifecycle: Lifecycle) -> None:
        lifecycle.stop()
        await forever()

    async with Lifecycle.running() as lifecycle:
        assert await lifecycle.unless_stopped(asyncio.sleep(0, result="done")) == "done"
        with pytest.raises(NotReady, match="gone"):
            await lifecycle.unless_stopped(failing(NotReady("gone")))
        async with asyncio.timeout(5):
            assert await lifecycle.unless_stopped(stop(lifecycle)) is None


FAILURES = {
    "invalid": InvalidRequest("a file does not parse"),
    "not ready": NotReady("a file is missing", reason="file.unreadable"),
    "refused": EvidenceRejected("the request was refused"),
    "revoked": EvidenceRejected("this worker's platform is revoked", reason="platform.revoked"),
    "clock": ClockJumped("the host's counter stands still"),
    "both": ExceptionGroup("two", [NotReady("gone"), EvidenceRejected("no more", reason="platform.revoked")]),
}


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    if settings.mode == "fail":
        lifecycle.spawn(failing(ValueError("s3cret")), "failing")
        await forever()
    if settings.mode == "bad":
        raise settings_error("mode", "no such\nmode")
    if settings.mode in FAILURES:
        raise FAILURES[settings.mode]
    signal.raise_signal(signal.SIGTERM)
    await lifecycle.stopping.wait()


@pytest.mark.parametrize(
    ("mode", "code"),
    [("clean", CLEAN), ("fail", FAILED), ("bad", BAD_SETTINGS), ("invalid", FAILED)],
)
@pytest.mark.parametrize("uvloop", [True, False])
def test_exit_codes(mode: str, code: int, uvloop: bool, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"CLOISTER_GATEWAY_MODE": mode}
    assert run_service("gateway", serve, Settings, argv=[], environ=environ, uvloop=uvloop) == code
    out, err = capsys.readouterr()
    assert "s3cret" not in out + err
    assert out.count("service.failed") == (1 if code == FAILED else 0)
    assert err == ("cloister-gateway: mode: no such mode\n" if code == BAD_SETTINGS else "")


@pytest.mark.parametrize(
    ("mode", "code", "reason", "said"),
    [
        ("not ready", FAILED, "file.unreadable", "a file is missing"),
        ("refused", REFUSED, "evidence.rejected", "the request was refused"),
        ("revoked", REFUSED, "platform.revoked", "this worker's platform is revoked"),
        ("clock", FAILED, "clock.jumped", "the host's counter stands still"),
        ("both", REFUSED, "platform.revoked", "no more"),
        ("fail", FAILED, "internal", "ValueError"),
    ],
)
def test_one_line_says_why_a_service_ends(
    mode: str, code: int, reason: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_service("gateway", serve, Settings, argv=[], environ={"CLOISTER_GATEWAY_MODE": mode}) == code
    (line,) = (json.loads(each) for each in capsys.readouterr().out.splitlines() if "service.failed" in each)
    assert (line["exit_code"], line["reason"]) == (code, reason)
    assert said in line["error"]


def test_a_settings_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "x.toml")
    assert run_service("gateway", serve, Settings, argv=["--settings", missing], environ={}) == BAD_SETTINGS
    assert "cannot be read" in capsys.readouterr().err


def test_an_enclave_takes_nothing_else_from_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"CLOISTER_WORKER_MODE": "clean"}
    assert run_service("worker", serve, Settings, argv=[], environ=environ, in_enclave=True) == BAD_SETTINGS
    assert "CLOISTER_WORKER_MODE" in capsys.readouterr().err


@pytest.mark.attack("I05")
@pytest.mark.attack("I02")
@pytest.mark.parametrize("service", ["worker", "verifier", "provisioner", "gateway"])
def test_every_service_begins_before_it_imports_what_it_is_made_of(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = importlib.import_module(f"cloister.{service}.__main__")
    begun: list[str] = []

    def begin(name: str) -> None:
        begun.append(name)
        monkeypatch.setitem(sys.modules, f"cloister.{service}.app", None)  # whoever imports it now gets an ImportError

    monkeypatch.setattr(program, "begin", begin)
    with pytest.raises(ImportError, match=rf"cloister\.{service}\.app"):
        program.main()
    assert begun == [service]
