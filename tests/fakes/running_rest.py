"""A real gateway's HTTPS face, by either engine, with a fake verifier and fake workers around it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from cloister.gateway.app import opened
from cloister.gateway.front import behind_envoy, envoy_module
from cloister.gateway.http_faces import listening_https
from cloister.gateway.portion import REST
from cloister.gateway.settings import Settings
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.shared_port import Place, reserved
from fakes.attested_feed import AttestedFeed
from fakes.pki import MeshPki
from fakes.running_gateway import until_open
from fakes.worker_link import FakeWorker

ENGINES = ("envoy", "own")
OPEN_TO_ALL = "/v2/health/ready"


class RestRig:
    """A gateway that answers HTTPS, and everything around it.

    Attributes:
        engine: What ends TLS: `envoy`, or `own` for the server of `kit/https`.
        port: Where.
        workers: By instance.
    """

    def __init__(self, stack: AsyncExitStack, folder: Path, pki: MeshPki, feed: AttestedFeed, engine: str) -> None:
        self.folder, self.pki, self.feed, self.engine = folder, pki, feed, engine
        self.port = 0
        self.workers: dict[str, FakeWorker] = {}
        self._stack = stack
        self._clients: dict[tuple[str, ...], httpx.AsyncClient] = {}

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def files(self, role: str, name: str) -> Path:
        """Folder of somebody's certificate, key and roots."""
        folder = self.folder / role / name
        if not folder.exists():
            self.pki.identity(role, name).write(folder)
        return folder

    def tls(self, role: str = "client", name: str = "ann") -> ssl.SSLContext:
        """As somebody, or as nobody if the name is empty."""
        folder = self.files(role, name or "ann")
        context = ssl.create_default_context(cafile=str(folder / "roots.pem"))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if name:
            context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        return context

    async def client(self, role: str = "client", name: str = "ann", *, http2: bool = False) -> httpx.AsyncClient:
        """A client of one connection or a few, as somebody; nobody if the name is empty."""
        key = (role, name, str(http2))
        if key not in self._clients:
            made = httpx.AsyncClient(
                base_url=self.address, verify=self.tls(role, name), http2=http2, http1=not http2, timeout=20
            )
            self._clients[key] = await self._stack.enter_async_context(made)
        return self._clients[key]

    async def worker(self, instance: str, slots: int = 4, **options: Any) -> FakeWorker:
        """Another worker, attested and linked."""
        worker = await self._stack.enter_async_context(FakeWorker(instance, slots, **options).serving(self.pki))
        self.workers[instance] = worker
        self.feed.join(worker.attested())
        client = await self.client()
        async with asyncio.timeout(20):
            for model in worker.models:
                path = f"/v2/models/{model.name}/versions/{model.version}/ready"
                while (await client.get(path)).status_code != 200:
                    await asyncio.sleep(0.02)
        return worker


@asynccontextmanager
async def running_rest(folder: Path, pki: MeshPki, engine: str, **options: Any) -> AsyncIterator[RestRig]:
    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(AttestedFeed().serving(pki))
        lifecycle = await stack.enter_async_context(Lifecycle.running())
        rig = RestRig(stack, folder, pki, feed, engine)
        held = stack.enter_context(ExitStack())
        port, rest_listen = held.enter_context(reserved("127.0.0.1:0"))
        place = Place(1, 1, port.fileno(), REST)
        settings = Settings(
            cluster=pki.cluster,
            listen="127.0.0.1:0",
            rest_listen=rest_listen,
            verifier=f"127.0.0.1:{feed.port}",
            tls=pki.identity("gateway", "main", ips=("127.0.0.1",)).write(folder / "tls"),
            **{"grace_s": 5.0, "front": "envoy", **options},
        )
        rig.port = int(rest_listen.rpartition(":")[2])
        if engine == "own":
            facing = partial(listening_https, shared_port=True)
            server = await stack.enter_async_context(opened(settings, lifecycle, facing, place))
            lifecycle.spawn(server.run(), "server")
            await server.start()
            yield rig
            return
        module = envoy_module("envoy")
        assert module is not None
        task = lifecycle.spawn(behind_envoy(settings, lifecycle, module, place), "envoy")
        try:
            await until_open(rig.port)
            yield rig
        finally:
            lifecycle.stop()
            await task
