"""The gateway inside Envoy: the ASGI application that pyvoy imports, and its life (see `front`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloister.errors import InvalidRequest, NotReady
from cloister.gateway.app import opened, service_name
from cloister.gateway.front import CONTROL, SETTINGS, let_nobody_in, taken_over
from cloister.gateway.http_faces import hosted, hosted_https
from cloister.gateway.portion import REST, RUNNER
from cloister.kit import closed_memory, config, lag, log, secrecy
from cloister.kit.grpc_http import Receive, Send
from cloister.kit.hosted import HostedServer, Scope
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.shared_port import Place

_log = log.get_logger()


class Application:
    """One gateway: from ASGI's startup until it has drained, when it ends the Envoy around it."""

    def __init__(self) -> None:
        self._server: HostedServer | None = None
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3: requests, and the lifespan."""
        if scope["type"] == "http" and self._server is not None:
            await self._server(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Callable[[], Any], send: Send) -> None:
        await receive()
        closed_memory.close_memory()
        secrecy.report_places()
        settings = taken_over(await asyncio.to_thread(Path(os.environ[SETTINGS]).read_text))
        place = Place.inherited(os.environ, settings.listen, {REST: settings.rest_listen, RUNNER: None})
        log.configure(service_name(place), json=settings.log_json)
        facing = hosted_https if place is not None and place.face == REST else hosted
        control = socket.socket(fileno=int(os.environ[CONTROL]))
        reader, writer = await asyncio.open_connection(sock=control)
        word: dict[str, str] = {"end": "drained"}
        try:
            async with Lifecycle.running() as lifecycle, opened(settings, lifecycle, facing, place) as server:
                lifecycle.spawn(_stop_after(reader, lifecycle), "word from outside")
                receive().add_done_callback(lambda _: lifecycle.stop())  # Envoy is going down
                await server.start()
                lag.spare_collections()
                self._server, self._begun = server, True
                await send({"type": "lifespan.startup.complete"})
                await server.run()
        except InvalidRequest as error:
            key, _, why = str(error).partition(": ")
            word = {"end": "refused", "key": key, "why": why} if error.reason == config.REASON else {"end": "failed"}
            _log.error("service.failed", error=error)
        except NotReady as error:
            word = {"end": "failed", "why": str(error), "reason": error.reason}
            _log.error("service.failed", error=error)
        except Exception as error:
            word = {"end": "failed"}
            _log.error("service.failed", error=error, exc_info=error)
        with contextlib.suppress(OSError):  # whoever started us may be gone
            writer.write(json.dumps(word).encode())
            writer.close()
            await writer.wait_closed()
        await self._leave(send)

    async def _leave(self, send: Send) -> None:
        if not self._begun:
            await send({"type": "lifespan.startup.failed", "message": "see the log"})
        else:
            os.kill(os.getpid(), signal.SIGTERM)
            await send({"type": "lifespan.shutdown.complete"})


async def _stop_after(reader: asyncio.StreamReader, lifecycle: Lifecycle) -> None:
    """Stop at a byte from outside, or when there will never be one: whoever started us is gone."""
    if not await reader.read(1):
        await let_nobody_in()  # which is theirs to say as long as they live
    lifecycle.stop()


application = Application()
