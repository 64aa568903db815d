"""The queue that asks. See the package."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cloister.client import Answer, SyncClient
from cloister.compat.zoo.access import address_of, of_mesh, tls_files_of
from cloister.compat.zoo.fitting import Instance, Result, fitted
from cloister.compat.zoo.jobs import Jobs
from cloister.compat.zoo.output_queue import NAME, TIMEOUT_S, held
from cloister.compat.zoo.results import Failure
from cloister.compat.zoo.tickets import Tickets
from cloister.compat.zoo.values import Values, read_instance
from cloister.contract import ModelContract
from cloister.errors import AlreadyExists, CloisterError, InternalError, InvalidRequest, NotFound, NotReady
from cloister.oip.contents import Array

CONCURRENCY: Final = 16
CONTRACT_FRESH_S: Final = 60.0


class InputQueue:
    """Asks one model; use it as a context manager, or `close` it.

    Args:
        host: Of the gateway.
        port: Its port.
        name: The model. A queue served one model there, so its name stands for it here.
        sync: Accepted and without effect, as it was there.
        frontend_url: Refused: the gateway speaks HTTP itself.
        ssl: May be left out, never switched off.
        ssl_certfile: The client's certificate, where `identity` is not given,
        ssl_keyfile: its key,
        ssl_ca_certs: and the roots that the gateway's certificate must chain to.
        trust: The trust bundle: whom to believe.
        identity: Folder of an identity. What is given in neither way is taken from the mesh folder that `CLOISTER_MESH`
            names.
        version: The only version that may answer, a label, or empty for the operator's default.
        timeout_s: For each request that is enqueued.

    Raises:
        InvalidRequest: Something is missing, or asks for what is not done here.
        NotFound: A file is missing.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | str | None = None,
        name: str = NAME,
        *,
        sync: bool = True,
        frontend_url: str | None = None,
        ssl: bool = True,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        ssl_ca_certs: str | None = None,
        trust: Path | str | None = None,
        identity: Path | str | None = None,
        version: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if frontend_url is not None:
            raise InvalidRequest(
                "there is no frontend beside the gateway: leave frontend_url out, or send JSON to the gateway itself",
                reason="frontend.unsupported",
            )
        if not ssl:
            raise InvalidRequest("the mesh is reached by mutual TLS only: leave ssl out", reason="tls.required")
        address = address_of(host, port)
        files = tls_files_of(ssl_certfile, ssl_keyfile, ssl_ca_certs)
        if files is not None and identity is not None:
            raise InvalidRequest("give identity or the three ssl files, not both", reason="identity.twice")
        bundle = of_mesh(trust, "trust.json")
        who = files or of_mesh(identity, "identities/client/main")
        self._model, self._version, self._timeout_s = name, version, timeout_s
        self._client = SyncClient(address, trust=bundle, identity=who).__enter__()
        self._pool = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="cloister-zoo")
        shared = held(address, name)
        shared.bundle, shared.identity = bundle, who
        self._results = shared.results
        tickets = Tickets(address, name)
        tickets.sweep()
        self._jobs = Jobs(self._client, name, tickets)
        self._contract: ModelContract | None = None
        self._contract_read_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is under way, and disconnect; results stay."""
        self._pool.shutdown()
        self._client.__exit__(None, None, None)

    def enqueue(self, uri: str, **data: object) -> None:
        """Have a request answered; `OutputQueue.query(uri)` has the result.

        Where the mesh takes jobs, it is accepted when this returns: it will have a result or a reason, whoever is
        restarted meanwhile, and any process of this user finds it. Elsewhere it is asked at once by this process, which
        holds the result.

        Args:
            uri: Names the request until its result is deleted.
            data: Inputs by name; see `cloister.compat.zoo.values` for what each may be.

        Raises:
            InvalidRequest: The inputs do not fit the model; nothing was sent.
            AlreadyExists: `uri` is under way, or its result is held.
            Overloaded: As many requests and results are held as may be; nothing was dropped for this one.
            NotFound, Unavailable, TimeoutError: The gateway cannot say what the model takes.
        """
        contract = self._current_contract()
        instance = fitted(contract, data)
        if self._results.holds(uri) or self._jobs.holds(uri):
            raise AlreadyExists(
                f"'{uri[:64]}' is under way or its result is still held; query_and_delete it first", reason="uri.taken"
            )
        if self._jobs.enqueue(uri, contract, instance, version=self._version, timeout_s=self._timeout_s):
            return
        self._results.begin(uri, sum(array.nbytes for array in instance.arrays.values()))
        try:
            self._pool.submit(self._answer, uri, contract, instance)
        except RuntimeError:
            self._results.give_up(uri)
            raise NotReady("the queue is closed", reason="queue.closed") from None

    def predict(self, request_data: str | Values | Array, timeout: float = 5) -> Result:
        """Ask, and wait for the result.

        Args:
            request_data: JSON, `{"instances": [{name: value}]}` with one instance; or inputs by name; or the array of a
                model with one input.
            timeout: Seconds, for all of it.

        Raises:
            InvalidRequest: It is none of these, or does not fit the model.
            TimeoutError: No answer in time.
            CloisterError: As `cloister.Client.infer`.
        """
        values = _named(request_data)
        until_s = time.monotonic() + timeout
        contract = self._current_contract(timeout)
        instance = fitted(contract, values)
        return instance.result(contract, self._infer(instance, until_s - time.monotonic()).outputs)

    def _current_contract(self, timeout_s: float = TIMEOUT_S) -> ModelContract:
        now_s = time.monotonic()
        if self._contract is None or now_s - self._contract_read_s > CONTRACT_FRESH_S:
            try:
                self._contract = self._client.contract(self._model, self._version, timeout_s)
            except NotFound as error:
                raise NotFound(f"{error}; the name of an InputQueue is that of a model here") from error
            self._contract_read_s = now_s
        return self._contract

    def _infer(self, instance: Instance, timeout_s: float) -> Answer:
        return self._client.infer(self._model, instance.arrays, version=self._version, timeout_s=max(timeout_s, 0.001))

    def _answer(self, uri: str, contract: ModelContract, instance: Instance) -> None:
        outcome: Result | Failure
        answer: Answer | None = None
        try:
            answer = self._infer(instance, self._timeout_s)
            outcome = instance.result(contract, answer.outputs)
        except (CloisterError, TimeoutError) as error:
            outcome = error
        except Exception as error:  # whatever it is, whoever waits for this uri hears of it
            outcome = InternalError(f"the request ended with {type(error).__name__}")
        self._results.end(uri, outcome, answer)


def _named(request_data: str | Values | Array) -> Values:
    if isinstance(request_data, str):
        return read_instance(request_data)
    return request_data if isinstance(request_data, Mapping) else {"t": request_data}
