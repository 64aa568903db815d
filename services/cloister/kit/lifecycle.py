"""The life of a service process: settings, one task group, signals, exit code.

Exit codes: 0 stopped as asked; 1 something failed that may pass, so start it again, and wait longer each time; 2 the
settings are unusable, or the host of an enclave says what is not its to say (one line on stderr names the key, or the
variable); 3 the mesh refuses this process: its evidence is not believed, or something that it is was revoked, and
starting again changes nothing until a person does. Of 1 and 3 the last line of the log, `service.failed`, says why, in
`reason` for programs.

This module imports no gRPC, and services import theirs behind it: see `begin`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TextIO, TypeVar

from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest
from cloister.kit import closed_memory, config, enclave_state, environment, log, secrecy
from cloister.kit.environment import TLS_ENVIRONMENT
from cloister.kit.secrecy import Outlets

CLEAN: Final = 0
FAILED: Final = 1
BAD_SETTINGS: Final = 2
REFUSED: Final = 3

_log = log.get_logger()


class CommonSettings(Protocol):
    """What `run_service` itself reads from a service's settings."""

    @property
    def log_json(self) -> bool:
        """JSON lines, or lines for a person."""


S = TypeVar("S", bound=CommonSettings)
T = TypeVar("T")


class Lifecycle:
    """One running service: its tasks, and the event that tells all of them to come to an end.

    Attributes:
        stopping: Set once, by a signal or by `stop`; servers drain when they see it.
        serving: Whether each server of this process answers, as it says of itself (`grpc.health.v1`), in turn.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.stopping = asyncio.Event()
        self.serving: list[Callable[[], bool]] = []
        self._group = group
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    @asynccontextmanager
    async def running(cls, *, signals: Sequence[signal.Signals] = ()) -> AsyncIterator[Lifecycle]:
        """A lifecycle whose tasks end with the block.

        A task that fails cancels the block, and its error leaves it (alone where it is the only one, else as a group).

        Args:
            signals: Each of these calls `stop`.
        """
        group = asyncio.TaskGroup()
        lifecycle = cls(group)
        raised: Exception | None = None
        loop = asyncio.get_running_loop()
        for number in signals:
            loop.add_signal_handler(number, lifecycle.stop)
        try:
            async with group:
                try:
                    yield lifecycle
                except Exception as error:  # raised again below: the group would wrap it
                    raised = error
                finally:
                    lifecycle._end()
        except BaseExceptionGroup as failed:
            raise _only(failed) from None
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
        if raised is not None:
            raise raised

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a background loop as long as the service lives; if it fails, the process ends."""
        task = self._group.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` comes to, or None: it is given up when the service is to end first."""
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(work)
                watch = group.create_task(self._cancel_when_stopping(task))
                task.add_done_callback(lambda _: watch.cancel())
        except BaseExceptionGroup as failed:
            raise _only(failed) from None
        return None if task.cancelled() else task.result()

    def ready(self) -> bool:
        """Whether this process serves what it is there for; for any thread."""
        servers = tuple(self.serving)
        return bool(servers) and not self.stopping.is_set() and all(serving() for serving in servers)

    def stop(self) -> None:
        """Ask the service to drain and end."""
        self.stopping.set()

    async def _cancel_when_stopping(self, task: asyncio.Task[Any]) -> None:
        await self.stopping.wait()
        task.cancel()

    def _end(self) -> None:
        self.stopping.set()
        for task in self._tasks:
            task.cancel()


def run_service(
    name: str,
    serve: Callable[[S, Lifecycle], Awaitable[None]],
    settings: type[S],
    *,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    in_enclave: bool = False,
    uvloop: bool = True,
) -> int:
    """Be the process of one service, from its arguments to its exit code.

    Inside an enclave the settings are those that are measured, once they are read nothing but the log leaves the
    process by standard output and error, and its encrypted state is opened before the service looks for any file.

    Args:
        name: `verifier`, say: the name in logs, and the part of the prefix `CLOISTER_VERIFIER_`.
        serve: Runs until the lifecycle is stopping, then drains.
        settings: The settings class; filled from `--settings FILE` and the environment.
        argv: Arguments without the program's name.
        environ: Instead of the process's own.
        in_enclave: Take from the environment only what the host may choose, also where there is no enclave.
        uvloop: Use it where it is installed.

    Returns:
        The exit code, for `sys.exit`.
    """
    require_tls13()
    inside = environment.inside_enclave()
    try:
        file = _arguments(name, argv)
        if inside:
            environment.check_settings_file(file)
        loaded = config.load(
            settings,
            file,
            os.environ if environ is None else environ,
            prefix=_prefix(name),
            in_enclave=in_enclave or inside,
        )
    except InvalidRequest as error:
        return _refused(name, error, sys.stderr)
    outlets = secrecy.only_the_log_speaks() if inside else Outlets(sys.stdout, sys.stderr)
    log.configure(name, json=loaded.log_json, stream=outlets.log, quote_libraries=not inside)
    try:
        if inside:
            _open_state()
        with asyncio.Runner(loop_factory=_loop_factory(wanted=uvloop)) as runner:
            runner.run(_live(name, serve, loaded))
    except InvalidRequest as error:
        if error.reason == config.REASON:
            return _refused(name, error, outlets.complaints)
        return _failed(error)
    except KeyboardInterrupt:
        return CLEAN
    except Exception as error:
        return _failed(error)
    return CLEAN


def abandon(error: CloisterError) -> None:
    """End this process now, from any thread: its host keeps it from ending in order. The log says why."""
    os._exit(_failed(error))


def begin(name: str) -> None:
    """Begin the process of a service: the first that its `__main__` does, before it imports the service's parts.

    Inside an enclave, what the host has added to the environment ends the process: libraries would act on it as they
    are imported. Everywhere, what the process will hold stays in it, and gRPC will speak TLS 1.3 only.
    """
    if environment.inside_enclave():
        try:
            environment.check_environment(os.environ, prefix=_prefix(name))
            environment.check_interpreter()
        except InvalidRequest as error:
            sys.exit(_refused(name, error, sys.stderr))
    closed_memory.close_memory()
    secrecy.report_places()
    require_tls13()


def require_tls13() -> None:
    """See to it that gRPC in this process speaks TLS 1.3 only.

    It fixes its cipher suites when it is imported. If that has happened without them, the process starts itself once
    more with the right environment; an image or a manifest that sets `TLS_ENVIRONMENT` spares that.
    """
    if all(os.environ.get(key) == value for key, value in TLS_ENVIRONMENT.items()):
        return
    os.environ.update(TLS_ENVIRONMENT)
    if "grpc" in sys.modules:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves, with no shell


def _open_state() -> None:
    if enclave_state.open_state():
        _log.warning("state.begun", meaning="there was none; if this enclave has had one, stop it and bring that back")


async def _live(name: str, serve: Callable[[S, Lifecycle], Awaitable[None]], settings: S) -> None:
    async with Lifecycle.running(signals=(signal.SIGTERM, signal.SIGINT)) as lifecycle:
        await serve(settings, lifecycle)
    _log.info("service.stopped", name=name)


def _arguments(name: str, argv: Sequence[str] | None) -> Path | None:
    parser = argparse.ArgumentParser(prog=f"cloister-{name}", description=f"The Cloister {name}.", allow_abbrev=False)
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings in TOML")
    chosen: Path | None = parser.parse_args(argv).settings
    return chosen


def _loop_factory(*, wanted: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not wanted:
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _prefix(name: str) -> str:
    return f"CLOISTER_{name.upper()}_"


def _refused(name: str, error: InvalidRequest, complaints: TextIO) -> int:
    line = " ".join(str(error).split())
    print(f"cloister-{name}: {line}", file=complaints)
    return BAD_SETTINGS


def _failed(error: Exception) -> int:
    telling = max(_each(error), key=lambda each: isinstance(each, EvidenceRejected))  # of several, what refuses us
    code = REFUSED if isinstance(telling, EvidenceRejected) else FAILED
    reason = str(getattr(telling, "reason", None) or "internal")
    _log.error("service.failed", error=error, reason=reason, exit_code=code, exc_info=error)
    return code


def _each(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _each(inner)]
    return [error]


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    seen: BaseException = group
    while isinstance(seen, BaseExceptionGroup) and len(seen.exceptions) == 1:
        seen = seen.exceptions[0]
    return seen
