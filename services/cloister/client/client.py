"""The SDK: connect to a gateway, verify who serves a model, ask it with NumPy arrays.

    async with Client.connect("127.0.0.1:8440", trust="trust.json", identity="identities/client/main") as mesh:
        answer = await mesh.infer("breast-cancer", {"measurements": records})
        answer.outputs["benign_probability"], answer.worker.result.mrenclave, answer.receipt

Requests are sealed to enclaves whose evidence this client has judged itself, unless `sealed=False` says that the
gateway and its host may read them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from cloister.api.oip.inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
)
from cloister.api.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from cloister.client.answer import Answer
from cloister.client.attempts import attempts
from cloister.client.bundle import TrustBundle
from cloister.client.carriers import Aside, Stream, Unary
from cloister.client.exchange import sealed_to, target
from cloister.client.identity import tls_files
from cloister.client.receipts import check_issued
from cloister.client.roster import Roster, Serving
from cloister.client.tasks import task_group
from cloister.client.timing import Timing
from cloister.contract import ModelContract
from cloister.errors import CloisterError, InvalidRequest, NotReady, Unavailable
from cloister.oip.contents import Array
from cloister.oip.tensors import Parameter, decode_response, encode_request
from cloister.rpc.channel import STREAM_S, Peer
from cloister.rpc.identity import TlsFiles, TlsIdentity
from cloister.rpc.spiffe import server_name
from cloister.seal.session import ClientSessions

TIMEOUT_S: Final = 30.0
CONCURRENCY: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One inference, as it was asked for.

    Attributes:
        version: The only version that may answer, a label of the operator's, or empty for the operator's default.
        digest: The only model that may answer; None for any.
        sealed: Whether only a verified enclave may read it.
        timing: Whether to ask where the time goes.
        traceparent: The trace that it belongs to, or empty.
    """

    model: str
    version: str
    inputs: Mapping[str, Array] = field(repr=False)
    outputs: Sequence[str]
    parameters: Mapping[str, Parameter]
    datatypes: Mapping[str, str]
    digest: bytes | None
    sealed: bool
    timing: bool = False
    traceparent: str = ""

    def request(self, version: str) -> ModelInferRequest:
        """The request to one version of the model."""
        return encode_request(
            self.model,
            self.inputs,
            version=version,
            outputs=self.outputs,
            parameters=self.parameters,
            datatypes=self.datatypes,
        )


class Client:
    """A data owner's connection to a mesh; for one event loop.

    Args:
        gateway: Connected as this client.
        trust: Whom to believe.
        stream: Carries the requests, while it lasts; each is a call of its own when None.
        padded: Whether to hide the lengths of sealed requests and answers.
    """

    def __init__(self, gateway: Peer, trust: TrustBundle, stream: Stream | None = None, *, padded: bool = True) -> None:
        self.trust = trust
        self._padded = padded
        self._gateway = gateway
        self._roster = Roster(gateway, trust)
        self._sessions = ClientSessions(trust.cluster)
        self._unary = Unary(gateway)
        self._stream = stream

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        gateway: str,
        *,
        trust: TrustBundle | Path | str,
        identity: TlsFiles | Path | str,
        padded: bool = True,
    ) -> AsyncIterator[Client]:
        """Connect to a gateway.

        Args:
            gateway: host:port.
            trust: The trust bundle, or its file.
            identity: TLS files of a client of this mesh, or the folder that holds them.
            padded: Whether to lengthen sealed requests, and have their answers lengthened, so that lengths say little
                of their content; workers that could not strip it are asked without.

        Raises:
            NotFound, InvalidRequest: A file is missing or is not what it should be.
        """
        bundle = trust if isinstance(trust, TrustBundle) else await asyncio.to_thread(TrustBundle.read, Path(trust))
        files = identity if isinstance(identity, TlsFiles) else tls_files(Path(identity))
        async with (
            TlsIdentity.watching(files) as own,
            Peer(gateway, own, server_name(bundle.cluster, "gateway")) as peer,
        ):
            yield cls(peer, bundle, padded=padded)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        parameters: Mapping[str, Parameter] | None = None,
        datatypes: Mapping[str, str] | None = None,
        digest: bytes | None = None,
        sealed: bool = True,
        timeout_s: float = TIMEOUT_S,
        timing: bool = False,
        traceparent: str = "",
    ) -> Answer:
        """Ask a model.

        Args:
            model: Name.
            inputs: Array by input name.
            version: Of the model, and no other answers. Empty for the mesh's default version, or a label such as
                `stable`: which one that is the operator says; `Answer.model_version` is the one that answered.
            outputs: Names of the outputs that are wanted; none asks for all.
            parameters: Of the request, as the Open Inference Protocol has them.
            datatypes: Where an array's dtype does not say it: `BF16` for uint16.
            digest: Only a model of this digest may answer (from the owner's manifest).
            sealed: Only a verified enclave can read request and answer. If False, gateway and host can, and the model's
                owner must have allowed it.
            timeout_s: For all of it, new attempts included.
            timing: Ask the gateway where the time went (`Answer.timing`); on a stream, what `stream` was told counts.
            traceparent: The trace that the request belongs to (W3C Trace Context); goes to the gateway in clear.

        Raises:
            EvidenceRejected: No worker that is offered is believed.
            SealBroken: The answer is not the enclave's answer to this request.
            NotFound, InvalidRequest: No such model, or not in this version or of this digest; inputs that do not fit.
            Overloaded, Unavailable, TimeoutError: Not now.
        """
        question = Question(
            model=model,
            version=version,
            inputs=inputs,
            outputs=outputs,
            parameters=parameters or {},
            datatypes=datatypes or {},
            digest=digest,
            sealed=sealed,
            timing=timing,
            traceparent=traceparent,
        )
        return await attempts(partial(self._ask, question), timeout_s)

    async def infer_many(
        self,
        model: str,
        many: Iterable[Mapping[str, Array]],
        *,
        concurrency: int = CONCURRENCY,
        version: str = "",
        sealed: bool = True,
        timeout_s: float = TIMEOUT_S,
        timing: bool = False,
    ) -> list[Answer]:
        """Ask a model many times over one stream; answers come in the order of `many`.

        Args:
            model: Name.
            many: Inputs of each request; taken one by one, at most `concurrency` ahead of the answers.
            concurrency: Requests under way.
            version: As in `infer`, as is `sealed`.
            sealed: See `version`.
            timeout_s: For each request.
            timing: Ask the gateway where the time of each went.

        Raises:
            CloisterError: The first that a request ends with; the others are given up.
        """
        answers: dict[int, Answer] = {}
        numbered = enumerate(many)

        async def worker(mesh: Client) -> None:
            for number, inputs in numbered:
                answers[number] = await mesh.infer(
                    model, inputs, version=version, sealed=sealed, timeout_s=timeout_s, timing=timing
                )

        async with self.stream(timing=timing) as mesh, task_group() as group:
            for _ in range(concurrency):
                group.create_task(worker(mesh))
        return [answers[number] for number in range(len(answers))]

    @asynccontextmanager
    async def stream(self, *, timing: bool = False, traceparent: str = "") -> AsyncIterator[Client]:
        """This client with one stream for all its requests, which costs the mesh far less than a call for each.

        Should the stream end before its time, requests go as calls of their own.

        Args:
            timing: Ask the gateway where the time of each request goes.
            traceparent: The trace that all of them belong to (W3C Trace Context).
        """
        async with Stream.opened(self._gateway, STREAM_S, Aside(timing, traceparent)) as stream:
            streaming = Client(self._gateway, self.trust, stream, padded=self._padded)
            streaming._roster, streaming._sessions = self._roster, self._sessions
            yield streaming

    async def workers(self, model: str, version: str = "", timeout_s: float = TIMEOUT_S) -> Serving:
        """Who serves a model: the workers this client believes, and those it does not, with the reasons."""
        return await self._roster.offered(model, version, timeout_s)

    async def contract(self, model: str, version: str = "", timeout_s: float = TIMEOUT_S) -> ModelContract:
        """Inputs and outputs of a model, as the gateway tells them."""
        request = ModelMetadataRequest(name=model, version=version)
        stub = self._gateway.stub(GRPCInferenceServiceStub)
        answer: ModelMetadataResponse = await stub.ModelMetadata(request, timeout=timeout_s)
        return ModelContract.from_metadata(answer)

    async def _ask(self, question: Question, left_s: float) -> Answer:
        if not (question.timing or question.traceparent):
            return await self._answer(question, left_s, None)
        aside, began_s = Aside(question.timing, question.traceparent), time.perf_counter()
        answer = await self._answer(question, left_s, aside)
        told = Timing.parse(aside.timing, time.perf_counter() - began_s) if aside.timing else None
        return replace(answer, timing=told)

    async def _answer(self, question: Question, left_s: float, aside: Aside | None) -> Answer:
        if not question.sealed:
            return await self._ask_plain(question, left_s, aside)
        try:
            return await self._ask_sealed(question, left_s, aside)
        except (Unavailable, NotReady):
            # Whoever was asked has gone, or serves something else by now.
            self._roster.forget(question.model, question.version)
            raise

    async def _ask_sealed(self, question: Question, left_s: float, aside: Aside | None) -> Answer:
        serving = await self._roster.serving(question.model, question.version, left_s)
        aim = target(question.model, serving.believed, version=question.version, digest=question.digest)
        request = question.request(aim.model_version).SerializeToString()
        sent = sealed_to(aim, request, self._sessions, left_s, padded=self._padded)
        try:
            opened = sent.opened(await self._carry(sent.envelope, left_s, aside))
        except CloisterError as error:
            if error.reason == "session.unknown":
                sent.forget_sessions()
            raise
        worker = opened.worker
        if opened.body.ear_id != worker.result.ear_id:
            ear_id = opened.body.ear_id
            worker = await self._roster.with_result(worker, ear_id, question.model, question.version, left_s)
        check_issued(opened.receipt, worker.result)
        return sent.answer(opened, worker)

    async def _ask_plain(self, question: Question, left_s: float, aside: Aside | None) -> Answer:
        if question.digest is not None:
            raise InvalidRequest("nobody proves the digest of the model that answers a plain request; ask sealed")
        request = question.request(question.version)
        response = await self._carry(request, left_s, aside)
        return Answer(
            outputs=decode_response(response),
            model_name=response.model_name,
            model_version=response.model_version,
            envelope=request,
        )

    async def _carry(self, request: ModelInferRequest, left_s: float, aside: Aside | None) -> ModelInferResponse:
        carrier = self._unary if self._stream is None or self._stream.ended else self._stream
        return await carrier.carry(request, left_s, aside)
