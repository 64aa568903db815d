"""The SDK without `async`: the same client on an event loop of its own, in a background thread.

    with SyncClient("127.0.0.1:8440", trust="trust.json", identity="identities/client/main") as mesh:
        answer = mesh.infer("breast-cancer", {"measurements": records})

Safe to use from several threads at once. All calls have a deadline, so none blocks for ever.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from cloister.client.answer import Answer
from cloister.client.bundle import TrustBundle
from cloister.client.client import TIMEOUT_S, Client
from cloister.client.roster import Serving
from cloister.contract import ModelContract
from cloister.oip.contents import Array
from cloister.rpc.identity import TlsFiles

T = TypeVar("T")


class SyncClient:
    """A data owner's connection to a mesh; use it as a context manager.

    Args:
        gateway: host:port.
        trust: The trust bundle, or its file.
        identity: TLS files of a client of this mesh, or the folder that holds them.
        padded: As in `Client.connect`.
    """

    def __init__(
        self,
        gateway: str,
        *,
        trust: TrustBundle | Path | str,
        identity: TlsFiles | Path | str,
        padded: bool = True,
    ) -> None:
        self._connect = partial(Client.connect, gateway, trust=trust, identity=identity, padded=padded)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connection: AbstractAsyncContextManager[Client] | None = None
        self._client: Client | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cloister-client", daemon=True)
        self._thread.start()
        try:
            self._client = self._wait(self._open())
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection, self._client = self._connection, None, None
        try:
            if connection is not None:
                self._wait(connection.__aexit__(None, None, None))
        finally:
            self._end_loop()

    def infer(self, model: str, inputs: Mapping[str, Array], **options: Any) -> Answer:
        """Ask a model; options and errors are those of `Client.infer`."""
        return self._wait(self._connected().infer(model, inputs, **options))

    def infer_many(self, model: str, many: Iterable[Mapping[str, Array]], **options: Any) -> list[Answer]:
        """Ask a model many times over one stream; options and errors are those of `Client.infer_many`."""
        return self._wait(self._connected().infer_many(model, many, **options))

    def workers(self, model: str, version: str = "", timeout_s: float = TIMEOUT_S) -> Serving:
        """Who serves a model, believed or not; see `Client.workers`."""
        return self._wait(self._connected().workers(model, version, timeout_s))

    def contract(self, model: str, version: str = "", timeout_s: float = TIMEOUT_S) -> ModelContract:
        """Inputs and outputs of a model; see `Client.contract`."""
        return self._wait(self._connected().contract(model, version, timeout_s))

    async def _open(self) -> Client:
        self._connection = self._connect()
        return await self._connection.__aenter__()

    def _connected(self) -> Client:
        if self._client is None:
            raise RuntimeError("use the client in a 'with' block")
        return self._client

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C here ends the call there
            raise

    def _end_loop(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
