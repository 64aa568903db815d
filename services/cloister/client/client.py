"""The SDK: connect to a gateway, verify who serves a model, ask it with NumPy arrays.

    async with Client.connect("127.0.0.1:8440", trust="trust.json", identity="identities/client/main") as mesh:
        answer = await mesh.infer("breast-cancer", {"measurements": records})
        answer.outputs["benign_probability"], answer.worker.result.mrenclave, answer.receipt

Requests are sealed to enclaves whose evidence this client has judged itself, unless `sealed=False` says that the
gateway and its host may read them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, Unpack

from cloister.api.oip.inference_pb2 import (
    ModelMetadataRequest,
    ModelMetadataResponse,
)
from cloister.api.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from cloister.client.answer import Answer
from cloister.client.asking import Asker
from cloister.client.attempts import attempts
from cloister.client.bundle import TrustBundle
from cloister.client.carriers import Aside, Carrier, Unary
from cloister.client.conversations import Conversing
from cloister.client.identity import check_current, check_same_mesh, tls_files
from cloister.client.jobs import Jobs
from cloister.client.many import Progress, each, size_of
from cloister.client.mesh_folder import MeshFolder
from cloister.client.outcome import Outcome
from cloister.client.question import Inputs, Options, Question, named
from cloister.client.reaching import check_address
from cloister.client.roster import Serving
from cloister.client.streams import Streams
from cloister.client.tasks import Tasks, background
from cloister.contract import ModelContract
from cloister.errors import NotFound, Unavailable
from cloister.oip.tensors import Parameter
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsFiles, TlsIdentity
from cloister.rpc.spiffe import server_name

TIMEOUT_S: Final = 30.0
CONCURRENCY: Final = 16

T = TypeVar("T")


class Client:
    """A data owner's connection to a mesh, for one event loop; `connect` makes one.

    Any number of tasks may use it at once. It reconnects by itself: what is asked while the gateway is away is asked
    again, until its deadline.

    Args:
        gateway: Connected as this client.
        trust: Whom to believe.
        tasks: Where it runs what goes on between calls: streams, and the requests of `infer_each`.
        timeout_s: Deadline of calls that say none.
        padded: Whether to hide the lengths of sealed requests and answers.
        check: Called when the gateway cannot be reached; raises if asking again is in vain.
    """

    def __init__(
        self,
        gateway: Peer,
        trust: TrustBundle,
        *,
        tasks: Tasks | None = None,
        timeout_s: float = TIMEOUT_S,
        padded: bool = True,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.trust = trust
        self.timeout_s = timeout_s
        self._gateway = gateway
        self._tasks = tasks
        self._check = check
        self._asker = Asker(gateway, trust, padded=padded)
        self._carrier: Carrier = Unary(gateway)
        self._jobs = Jobs(
            gateway, self._asker.roster, self._again, self._background, timeout_s=timeout_s, padded=padded
        )

    @property
    def jobs(self) -> Jobs:
        """Requests that wait at the mesh until a worker has answered them, for as long as that takes."""
        return self._jobs

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        gateway: str | Sequence[str],
        *,
        trust: TrustBundle | Path | str,
        identity: TlsFiles | Path | str,
        timeout_s: float = TIMEOUT_S,
        padded: bool = True,
    ) -> AsyncIterator[Client]:
        """Connect to a gateway; use it in `async with`. Nothing is sent before the first call.

        Args:
            gateway: host:port; or those of several gateways of the mesh. The first is asked for as long as it can be
                reached, then the next, round and round.
            trust: The trust bundle, or its file.
            identity: TLS files of a client of this mesh, or the folder that holds them. They are read again when they
                change.
            timeout_s: Deadline of calls that say none, in seconds.
            padded: Whether to lengthen sealed requests, and have their answers lengthened, so that lengths say little
                of their content; workers that could not strip it are asked without.

        Raises:
            NotFound: There is no such file or folder.
            InvalidRequest: A file is not what it should be, an address is not host:port (`address.invalid`), or trust
                and identity are of different meshes (`trust.other_mesh`).
            NotReady: The private key lies open to others.
            Unauthenticated: The identity has expired, or is not yet valid (`identity.expired`).
        """
        bundle = trust if isinstance(trust, TrustBundle) else await asyncio.to_thread(TrustBundle.read, Path(trust))
        files = identity if isinstance(identity, TlsFiles) else tls_files(Path(identity))
        for address in (gateway,) if isinstance(gateway, str) else gateway:
            check_address(address)
        async with TlsIdentity.watching(files) as own:
            check_same_mesh(own, bundle)
            check_current(own, files)
            async with Peer(gateway, own, server_name(bundle.cluster, "gateway")) as peer:
                check = partial(check_current, own, files)
                async with cls.over(peer, bundle, timeout_s=timeout_s, padded=padded, check=check) as client:
                    yield client

    @classmethod
    def of_mesh(
        cls, folder: Path | str, *, timeout_s: float = TIMEOUT_S, padded: bool = True
    ) -> AbstractAsyncContextManager[Client]:
        """Connect by a mesh folder that holds a client's identity, as `cloister identity issue --out` makes it.

        Args:
            folder: With `mesh.toml`, `trust.json`, and an identity of the role `client`.
            timeout_s: As in `connect`, as are the errors.
            padded: As in `connect`.
        """
        mesh = MeshFolder.read(Path(folder))
        identity = mesh.identity("client")
        return cls.connect(mesh.gateway, trust=mesh.trust, identity=identity, timeout_s=timeout_s, padded=padded)

    @classmethod
    @asynccontextmanager
    async def over(
        cls,
        gateway: Peer,
        trust: TrustBundle,
        *,
        timeout_s: float = TIMEOUT_S,
        padded: bool = True,
        check: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Client]:
        """A client over a connection that somebody else made; ends what it has under way."""
        async with background() as tasks:
            yield cls(gateway, trust, tasks=tasks, timeout_s=timeout_s, padded=padded, check=check)

    async def infer(
        self,
        model: str,
        inputs: Inputs,
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        parameters: Mapping[str, Parameter] | None = None,
        datatypes: Mapping[str, str] | None = None,
        digest: bytes | None = None,
        sealed: bool = True,
        timeout_s: float | None = None,
        timing: bool = False,
        traceparent: str = "",
    ) -> Answer:
        """Ask a model.

        Args:
            model: Name.
            inputs: NumPy array by input name, each of the input's datatype and shape; `contract` tells both.
            version: Of the model, and no other answers. Empty for the mesh's default version, or a label such as
                `stable`: which one that is the operator says; `Answer.model_version` is the one that answered.
            outputs: Names of the outputs that are wanted; none asks for all.
            parameters: Of the request, as the Open Inference Protocol has them.
            datatypes: Datatype by input name, where an array's dtype does not say it: `BF16` for uint16.
            digest: Only a model of this digest may answer: 32 bytes, from the owner's manifest.
            sealed: Only a verified enclave can read request and answer. If False, gateway and host can, and the model's
                owner must have allowed it.
            timeout_s: Seconds for all of it, new attempts included; None for the client's own.
            timing: Ask the gateway where the time went (`Answer.timing`); on a stream, what `stream` was told counts.
            traceparent: The trace that the request belongs to (W3C Trace Context); goes to the gateway in clear.

        Returns:
            The outputs, who answered, and a receipt that has been checked.

        Raises:
            EvidenceRejected: No worker that is offered is believed; `reason` says why the first was not.
            SealBroken: The answer is not the enclave's answer to this request: somebody between has changed it.
            NotFound: No such model, or not in this version or of this digest, or none that this client may ask.
            InvalidRequest: Inputs that do not fit the model; the message names the tensor.
            NotAllowed: The model's owner allows sealed requests only, or the identity's role may not ask.
            Unauthenticated: The gateway does not know the identity, or it has expired.
            Overloaded: No room until the deadline; `retry_after_s` says when there may be.
            Unavailable: The gateway or the model's workers could not be reached until the deadline.
            TimeoutError: No answer until the deadline.
        """
        question = Question(
            model=model,
            version=version,
            inputs=inputs,
            outputs=outputs,
            parameters=parameters,
            datatypes=datatypes,
            digest=digest,
            sealed=sealed,
            timing=timing,
            traceparent=traceparent,
        )
        return await self._again(partial(self._asker.ask, question, self._carrier), named(model, version), timeout_s)

    async def infer_each(
        self,
        model: str,
        many: Iterable[Inputs],
        *,
        concurrency: int = CONCURRENCY,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Outcome, None]:
        """Ask a model many times over one stream, and yield what became of each request as it is known.

            async for outcome in mesh.infer_each("breast-cancer", batches):
                print(outcome.number, outcome.error or outcome.answer.outputs)

        A request that fails ends nothing: its error is its outcome. Requests wait for who takes the outcomes, so
        neither `many` nor the answers need fit in memory. Leaving the loop gives up what is under way.

        Args:
            model: Name.
            many: Inputs of each request; taken one by one, at most `concurrency` ahead of the outcomes. If taking them
                raises, so does this.
            concurrency: Requests under way.
            **options: Of each request; see `infer`. The deadline too is each request's.

        Yields:
            An outcome for each request, in the order in which they end; `number` says which request it was.
        """
        streams = self._streams(options.get("timing", False), options.get("traceparent", ""))
        ask = partial(self._with(streams).infer, model, **options)
        async with aclosing(each(ask, many, concurrency, self._background())) as outcomes:
            try:
                async for outcome in outcomes:
                    yield outcome
                await streams.conversations.conclude()
            finally:
                streams.close()

    async def infer_many(
        self,
        model: str,
        many: Iterable[Inputs],
        *,
        concurrency: int = CONCURRENCY,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> list[Answer]:
        """Ask a model many times over one stream; all answers, in the order of `many`, or an error.

        Where some may fail and the others count all the same, take `infer_each`.

        Args:
            model: Name.
            many: As in `infer_each`, as is `concurrency`.
            concurrency: See `many`.
            progress: Called after each answer with how many have come, and how many will, or None where `many` has no
                length.
            **options: Of each request; see `infer`. The deadline too is each request's.

        Raises:
            CloisterError, TimeoutError: The first that a request ends with; the others are given up. What each error
                means, `infer` says.
        """
        answers: dict[int, Answer] = {}
        total = size_of(many)
        async with aclosing(self.infer_each(model, many, concurrency=concurrency, **options)) as outcomes:
            async for outcome in outcomes:
                answers[outcome.number] = outcome.result()
                if progress is not None:
                    progress(len(answers), total)
        return [answers[number] for number in range(len(answers))]

    @asynccontextmanager
    async def stream(self, *, timing: bool = False, traceparent: str = "") -> AsyncIterator[Client]:
        """This client with one stream for all its requests, which costs the mesh far less than a call for each.

        Answers come in the order of the requests, so requests to a slow model hold up those behind them: give each
        model a stream of its own. Should the stream end before its time, because the gateway restarts or has moved
        elsewhere, another is opened, and requests that were under way are asked again.

        Args:
            timing: Ask the gateway where the time of each request goes.
            traceparent: The trace that all of them belong to (W3C Trace Context).
        """
        streams = self._streams(timing, traceparent)
        try:
            yield self._with(streams)
            await streams.conversations.conclude()
        finally:
            streams.close()

    async def conclude(self) -> None:
        """Have the workers sign for all answers that came on this stream, so that each has its receipt now.

        Without it they do when the stream's block ends, and about once a minute.

        Raises:
            SealBroken: What came is not the workers' own end of their conversations.
        """
        if isinstance(self._carrier, Conversing):
            await self._carrier.conversations.conclude()

    async def workers(self, model: str, version: str = "", timeout_s: float | None = None) -> Serving:
        """Who serves a model: the workers this client believes, and those it does not, with the reasons.

        Args:
            model: Name.
            version: As in `infer`.
            timeout_s: Seconds; None for the client's own.

        Raises:
            NotFound: No such model, or none that this client may ask.
            Unauthenticated, NotAllowed, Unavailable, TimeoutError: As `infer`.
        """
        call = partial(self._asker.roster.offered, model, version)
        return await self._again(call, named(model, version), timeout_s)

    async def contract(self, model: str, version: str = "", timeout_s: float | None = None) -> ModelContract:
        """Inputs and outputs of a model (names, datatypes, shapes), as the gateway tells them.

        Args:
            model: Name.
            version: As in `infer`.
            timeout_s: Seconds; None for the client's own.

        Returns:
            Shapes have -1 where any size will do.

        Raises:
            NotFound: No such model, or none that this client may ask.
            Unauthenticated, NotAllowed, Unavailable, TimeoutError: As `infer`.
        """
        return await self._again(partial(self._metadata, model, version), named(model, version), timeout_s)

    async def _metadata(self, model: str, version: str, left_s: float) -> ModelContract:
        request = ModelMetadataRequest(name=model, version=version)
        stub = self._gateway.stub(GRPCInferenceServiceStub)
        answer: ModelMetadataResponse = await stub.ModelMetadata(request, timeout=left_s)
        return ModelContract.from_metadata(answer)

    async def _again(self, call: Callable[[float], Awaitable[T]], asked: str, timeout_s: float | None) -> T:
        async def checked(left_s: float) -> T:
            try:
                return await call(left_s)
            except Unavailable:
                self._check()
                raise
            except NotFound as error:
                if error.reason != NotFound.default_reason:
                    raise
                # A gateway says no more: which models there are is not for everybody to know.
                said = f"{error}: {asked}; is the name right, has a worker its key, and may this identity ask it?"
                raise NotFound(said) from error

        return await attempts(checked, self.timeout_s if timeout_s is None else timeout_s)

    def _background(self) -> Tasks:
        if self._tasks is None:
            raise RuntimeError("streams need a client that 'Client.connect' has made")
        return self._tasks

    def _streams(self, timing: bool, traceparent: str) -> Conversing:
        tasks = self._background()
        return self._asker.conversing(Streams(self._gateway, tasks, Aside(timing, traceparent)), tasks, timed=timing)

    def _with(self, carrier: Carrier) -> Client:
        """This client, with all that it knows, by another way to the gateway."""
        other = copy(self)
        other._carrier = carrier
        return other
