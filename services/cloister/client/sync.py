"""The SDK without `async`: the same client on an event loop of its own, in a background thread.

    with SyncClient("127.0.0.1:8440", trust="trust.json", identity="identities/client/main") as mesh:
        answer = mesh.infer("breast-cancer", {"measurements": records})

Safe to use from several threads at once, and in notebooks. All calls have a deadline, so none blocks for ever.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import closing, contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Self, Unpack

from cloister.client.answer import Answer
from cloister.client.bundle import TrustBundle
from cloister.client.client import CONCURRENCY, TIMEOUT_S, Client
from cloister.client.loop_thread import PlainFace
from cloister.client.many import Progress, check_concurrency, size_of
from cloister.client.mesh_folder import MeshFolder
from cloister.client.outcome import Outcome
from cloister.client.question import Inputs, Options
from cloister.client.roster import Serving
from cloister.client.sync_jobs import SyncJobs
from cloister.contract import ModelContract
from cloister.errors import CloisterError
from cloister.rpc.channel import closed
from cloister.rpc.identity import TlsFiles


class SyncClient(PlainFace[Client]):
    """A data owner's connection to a mesh; use it as a context manager.

    Args:
        gateway: host:port; or those of several gateways, as for `Client.connect`.
        trust: The trust bundle, or its file.
        identity: TLS files of a client of this mesh, or the folder that holds them.
        timeout_s: Deadline of calls that say none, in seconds.
        padded: Whether to hide lengths; as in `Client.connect`.

    Raises:
        CloisterError: When the `with` block is entered: as `Client.connect`.
    """

    def __init__(
        self,
        gateway: str | Sequence[str],
        *,
        trust: TrustBundle | Path | str,
        identity: TlsFiles | Path | str,
        timeout_s: float = TIMEOUT_S,
        padded: bool = True,
    ) -> None:
        connect = partial(Client.connect, gateway, trust=trust, identity=identity)
        super().__init__(partial(connect, timeout_s=timeout_s, padded=padded))

    @classmethod
    def of_mesh(cls, folder: Path | str, *, timeout_s: float = TIMEOUT_S, padded: bool = True) -> Self:
        """By a mesh folder that holds a client's identity; as `Client.of_mesh`."""
        mesh = MeshFolder.read(Path(folder))
        identity = mesh.identity("client")
        return cls(mesh.gateway, trust=mesh.trust, identity=identity, timeout_s=timeout_s, padded=padded)

    @property
    def jobs(self) -> SyncJobs:
        """Requests that wait at the mesh until a worker has answered them; as `Client.jobs`."""
        return SyncJobs(lambda: self._connected.jobs, self._wait)

    def infer(self, model: str, inputs: Inputs, **options: Unpack[Options]) -> Answer:
        """Ask a model; options, answer and errors are those of `Client.infer`."""
        return self._wait(self._connected.infer(model, inputs, **options))

    def infer_each(
        self, model: str, many: Iterable[Inputs], *, concurrency: int = CONCURRENCY, **options: Unpack[Options]
    ) -> Generator[Outcome, None, None]:
        """Ask a model many times over one stream, and yield what became of each; as `Client.infer_each`.

        `many` is taken in the thread that takes the outcomes, so it may read files or a database.
        """
        check_concurrency(concurrency)
        settled: SimpleQueue[tuple[int, Future[Answer]]] = SimpleQueue()  # bounded by `concurrency`
        running: dict[int, Future[Answer]] = {}
        with self.stream(timing=options.get("timing", False), traceparent=options.get("traceparent", "")) as mesh:
            try:
                for number, inputs in enumerate(many):
                    if len(running) == concurrency:
                        yield _next(settled, running)
                    future = self._loop_thread.start(mesh._connected.infer(model, inputs, **options))
                    running[number] = future
                    future.add_done_callback(partial(_note, settled, number))
                while running:
                    yield _next(settled, running)
            finally:
                for future in running.values():
                    future.cancel()

    def infer_many(
        self,
        model: str,
        many: Iterable[Inputs],
        *,
        concurrency: int = CONCURRENCY,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> list[Answer]:
        """Ask a model many times over one stream; all answers, in the order of `many`, or an error.

        Arguments and errors are those of `Client.infer_many`; `progress` is called in this thread.
        """
        answers: dict[int, Answer] = {}
        total = size_of(many)
        with closing(self.infer_each(model, many, concurrency=concurrency, **options)) as outcomes:
            for outcome in outcomes:
                answers[outcome.number] = outcome.result()
                if progress is not None:
                    progress(len(answers), total)
        return [answers[number] for number in range(len(answers))]

    @contextmanager
    def stream(self, *, timing: bool = False, traceparent: str = "") -> Iterator[SyncClient]:
        """This client with one stream for all its requests, from however many threads; as `Client.stream`."""
        with self._loop_thread.entered(self._connected.stream(timing=timing, traceparent=traceparent)) as streaming:
            other = copy(self)
            other._client = streaming
            yield other

    def conclude(self) -> None:
        """Have all answers that came on this stream signed for now; as `Client.conclude`."""
        self._wait(self._connected.conclude())

    def workers(self, model: str, version: str = "", timeout_s: float | None = None) -> Serving:
        """Who serves a model, believed or not; as `Client.workers`."""
        return self._wait(self._connected.workers(model, version, timeout_s))

    def contract(self, model: str, version: str = "", timeout_s: float | None = None) -> ModelContract:
        """Inputs and outputs of a model; as `Client.contract`."""
        return self._wait(self._connected.contract(model, version, timeout_s))


def _note(settled: SimpleQueue[tuple[int, Future[Answer]]], number: int, future: Future[Answer]) -> None:
    settled.put((number, future))


def _next(settled: SimpleQueue[tuple[int, Future[Answer]]], running: dict[int, Future[Answer]]) -> Outcome:
    number, future = settled.get()
    del running[number]
    try:
        return Outcome(number, answer=future.result())
    except (CloisterError, TimeoutError) as error:
        return Outcome(number, error=error)
    except CancelledError:
        return Outcome(number, error=closed())
