"""A whole service process for test_process.py: imports gRPC first, as every service does, then `run_service`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc.aio

from cloister.kit.config import host_chosen, settings_error
from cloister.kit.lifecycle import Lifecycle, run_service
from cloister.kit.server import Server
from cloister.rpc.identity import TlsFiles, TlsIdentity

assert grpc.aio


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    tls: TlsFiles
    listen: str = host_chosen("127.0.0.1:0")
    mode: str = "serve"
    log_json: bool = True


async def failing() -> None:
    await asyncio.sleep(0)
    raise ValueError("contents of a request")


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    if settings.mode == "bad":
        raise settings_error("mode", "no such mode")
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(TlsIdentity.watching(settings.tls))
        if settings.mode == "fail":
            lifecycle.spawn(failing(), "failing")
        server = await stack.enter_async_context(
            Server.mtls(settings.listen, identity, lifecycle=lifecycle, roles={}, drain_pause_s=0.0)
        )
        await server.run()


if __name__ == "__main__":
    sys.exit(run_service("gateway", serve, Settings))
