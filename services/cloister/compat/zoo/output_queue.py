"""The queue of results. See the package."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cloister.client import Answer, SyncClient
from cloister.compat.zoo.access import address_of, of_mesh, tls_files_of
from cloister.compat.zoo.fitting import Result
from cloister.compat.zoo.jobs import Jobs
from cloister.compat.zoo.results import Failure, Results
from cloister.compat.zoo.tickets import Tickets
from cloister.errors import InvalidRequest
from cloister.rpc.identity import TlsFiles

NAME: Final = "serving_stream"
"""What a queue was called there unless somebody said otherwise."""
TIMEOUT_S: Final = 30.0


@dataclass(slots=True)
class Held:
    """What the queues of one address and name share in this process.

    Attributes:
        results: Of requests that this process has asked itself.
        bundle: Whom the `InputQueue` believes; None while there is none.
        identity: As whom it asks, likewise.
    """

    results: Results = field(default_factory=Results)
    bundle: Path | str | None = None
    identity: TlsFiles | Path | str | None = None


# Programs make the two queues apart and expect one to see what went into the other. There, Redis was what they shared;
# here it is this process, and a folder of tickets for what are jobs. Made at the first use, nothing at import.
_held: Final[dict[tuple[str, str], Held]] = {}
_held_lock: Final = threading.Lock()


def held(address: str, name: str) -> Held:
    """What these queues share."""
    with _held_lock:
        return _held.setdefault((address, name), Held())


class OutputQueue:
    """What became of the requests that this process has enqueued, and of the jobs that this user has.

    It connects when a job is asked for, as the `InputQueue` of the same process does, or by what it is given itself.

    Args:
        host: As the `InputQueue` was given it.
        port: Likewise.
        name: Likewise.
        trust: The trust bundle, where no `InputQueue` of this process says it, nor the environment.
        identity: Folder of an identity, likewise.
        ssl: May be left out, never switched off.
        ssl_certfile: As in `InputQueue`, as are the next two.
        ssl_keyfile: See `ssl_certfile`.
        ssl_ca_certs: See `ssl_certfile`.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | str | None = None,
        name: str = NAME,
        *,
        ssl: bool = True,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        ssl_ca_certs: str | None = None,
        trust: Path | str | None = None,
        identity: Path | str | None = None,
    ) -> None:
        if not ssl:
            raise InvalidRequest("the mesh is reached by mutual TLS only: leave ssl out", reason="tls.required")
        self._address, self._model = address_of(host, port), name
        self._held = held(self._address, name)
        self._results = self._held.results
        self._bundle = trust
        self._identity = identity or tls_files_of(ssl_certfile, ssl_keyfile, ssl_ca_certs)
        self._tickets = Tickets(self._address, name)
        self._client: SyncClient | None = None
        self._connecting = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect, if it has connected; results stay."""
        with self._connecting:
            client, self._client = self._client, None
        if client is not None:
            client.__exit__(None, None, None)

    def query(self, uri: str, delete: bool = False, *, timeout: float = TIMEOUT_S) -> Result:
        """The result of a request.

        There it was "[]" until there was one, and programs asked again; here the first call waits.

        Args:
            uri: As it was enqueued.
            delete: Whether to delete it.
            timeout: Seconds to wait while the request is under way; 0 to look only.

        Raises:
            NotFound: Nothing of that name is under way or held.
            NotReady: It is still under way (`result.pending`).
            CloisterError, TimeoutError: What the request ended with.
        """
        return self._found(uri, delete=delete, timeout_s=timeout)[0]

    def query_and_delete(self, uri: str, *, timeout: float = TIMEOUT_S) -> Result:
        """The result of a request, and delete it; as `query`."""
        return self.query(uri, delete=True, timeout=timeout)

    def answer(self, uri: str, *, timeout: float = TIMEOUT_S) -> Answer:
        """The whole answer, which proves by which enclave and which model it was given; as `query`."""
        return self._found(uri, delete=False, timeout_s=timeout)[1]

    def dequeue(self) -> dict[str, Result | Failure]:
        """Everything that has ended, by uri, and delete it. A request that failed has its error for a value."""
        ended = self._results.take_ended()
        if next(self._tickets.all(), None) is not None:
            ended |= self._jobs().take_ended()
        return ended

    def _found(self, uri: str, *, delete: bool, timeout_s: float) -> tuple[Result, Answer]:
        if not self._results.holds(uri) and self._tickets.find(uri) is not None:
            found = self._jobs().answer(uri, delete=delete, timeout_s=timeout_s)
            if found is not None:
                return found
        return self._results.get(uri, delete=delete, timeout_s=timeout_s)

    def _jobs(self) -> Jobs:
        with self._connecting:
            if self._client is None:
                bundle = of_mesh(self._bundle or self._held.bundle, "trust.json")
                given = self._identity or self._held.identity
                identity = given if isinstance(given, TlsFiles) else of_mesh(given, "identities/client/main")
                self._client = SyncClient(self._address, trust=bundle, identity=identity).__enter__()
            return Jobs(self._client, self._model, self._tickets)
