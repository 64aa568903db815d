"""From the bytes of a request to the bytes of its answer: open, check, encode, receipt, seal. Nothing here waits.

Walk 2 of the house, the worker's part. A request that says it is sealed is never answered in clear: what is wrong with
its content is content, and goes back sealed. What fails before it is open goes back as an outer Failure, in the words
of `seal`, which tell a gateway nothing. Answers that leave together share one signature (design section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1.seal_pb2 import OpenedResponse, Receipt, ReceiptBody
from cloister.api.v1.worker_pb2 import Evaluation, InferResult
from cloister.errors import InvalidRequest, NotAllowed, NotReady
from cloister.oip.contents import Array
from cloister.oip.tensors import decode_request, encode_response, parse_request
from cloister.rpc.status import failure_of
from cloister.seal import envelope, receipt
from cloister.seal.conversation_worker import OpenedChunk, conversation_unknown
from cloister.seal.session import OpenedRequest, WorkerSessions
from cloister.worker.clock import MeshClock
from cloister.worker.conversations import Conversations
from cloister.worker.served import ServedModel, ServedModels
from cloister.worker.settings import MAX_MESSAGE_BYTES


@dataclass(slots=True)
class Opened:
    """A request whose model is here; its content has not been looked at.

    Attributes:
        model: Which answers.
        oip_id: The envelope's id, in clear; comes back.
        plain: The request itself, where it came in clear.
        sealed: What was opened, where it came sealed.
        reply: The answer, where no model is asked: a conversation opens or ends.
    """

    model: ServedModel
    oip_id: str
    plain: ModelInferRequest | None = field(default=None, repr=False)
    sealed: OpenedRequest | OpenedChunk | None = field(default=None, repr=False)
    reply: OpenedResponse | None = field(default=None, repr=False)

    def party(self, tenant: str) -> bytes:
        """Whose it is: of a sealed session, which nobody else can claim, or of the tenant that the gateway names."""
        return b"session " + self.sealed.session_id if self.sealed is not None else b"tenant " + tenant.encode()


@dataclass(slots=True)
class Work:
    """Tensors that fit the model.

    Attributes:
        oip_id: The request's own id; comes back.
        outputs: Wanted, in this order.
    """

    oip_id: str
    inputs: Mapping[str, Array] = field(repr=False)
    outputs: Sequence[str]


@dataclass(slots=True)
class Answer:
    """What goes back for one call, not yet sealed: a response or an error.

    Attributes:
        call_id: On its link.
        opened: The request; None where it never was open.
        response: A serialised ModelInferResponse.
        timing: What is told of its evaluation, where there was one; one object for all that have it in common.
    """

    call_id: int
    opened: Opened | None = field(default=None, repr=False)
    response: bytes | None = field(default=None, repr=False)
    error: BaseException | None = None
    timing: Evaluation | None = None

    @property
    def sealed(self) -> OpenedRequest | OpenedChunk | None:
        """What the answer is sealed by; None where it goes back for the gateway to read.

        An error goes sealed where it is about the content: one that says which request is invalid, and how.
        """
        if self.opened is None or (self.error is not None and not isinstance(self.error, InvalidRequest)):
            return None
        return self.opened.sealed

    @property
    def size_bytes(self) -> int:
        """About how much it adds to a frame."""
        return len(self.response) if self.response is not None else 0


class Answers:
    """Opens requests and seals answers, for one worker.

    Args:
        served: The models.
        sessions: Opens what is sealed.
        clock: The verifier's time, for deadlines and receipts.
        receipt_key: Signs receipts.
        instance: Of this worker.
        max_message_bytes: Largest request that is opened, and largest answer that is given.
        drop_ended: Drops the key whose time is up, called before anything is opened: after a pause of the process its
            timer may be late.

    Attributes:
        conversations: That it opens, answers and ends.
        max_message_bytes: As given.
    """

    def __init__(
        self,
        served: ServedModels,
        sessions: WorkerSessions,
        clock: MeshClock,
        receipt_key: Ed25519PrivateKey,
        *,
        instance: str,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        drop_ended: Callable[[], object] = lambda: None,
    ) -> None:
        self._served = served
        self._sessions = sessions
        self._clock = clock
        self._receipt_key = receipt_key
        self.conversations = Conversations(served, clock, receipt_key, instance=instance)
        self._instance = instance
        self.max_message_bytes = max_message_bytes
        self._drop_ended = drop_ended

    def open(self, raw: bytes, version: str = "") -> Opened:
        """Open a serialised ModelInferRequest, sealed or in clear.

        Args:
            raw: The client's bytes.
            version: What the gateway says that a label, or no version, stands for. A sealed request says for itself.

        Raises:
            CloisterError: It is too large, does not open, or the model is not here; may be told to the gateway.
        """
        self._drop_ended()
        if len(raw) > self.max_message_bytes:
            raise InvalidRequest("the request is larger than this worker takes", reason="message.too_large")
        chunk = self.conversations.open(raw)
        if chunk is not None:
            return self._in_conversation(chunk)
        request = parse_request(raw)
        if envelope.is_sealed(request):
            chunk = self.conversations.open_parsed(request)
            if chunk is not None:
                return self._in_conversation(chunk)
            sealed = self._sessions.open(
                envelope.sealed_request(request), now=self._clock.now(), digest_of=self._served.digest_of
            )
            envelope.check_request(
                request,
                model_name=sealed.model_name,
                model_version=sealed.model_version,
                instances=sealed.recipients,
            )
            found = Opened(self._served.find(sealed.model_name, sealed.model_version), request.id, sealed=sealed)
            if sealed.conversation is not None:
                found.reply = self.conversations.begin(sealed, sealed.conversation, found.model)
            return found
        model = self._served.find(request.model_name, version or request.model_version)
        if not model.allow_plain:
            raise NotAllowed("the owner of this model allows sealed requests only", reason="model.sealed_only")
        return Opened(model, request.id, plain=request)

    def _in_conversation(self, chunk: OpenedChunk) -> Opened:
        opened = Opened(self.conversations.model_of(chunk), "", sealed=chunk)
        if chunk.is_last:
            opened.reply = self.conversations.end(chunk)
        return opened

    def finish(self, answers: Sequence[Answer]) -> list[InferResult]:
        """Make the results of a frame: receipts under one signature, then the seals.

        Nothing leaves of a model whose lease has ended meanwhile (attacks I04).
        """
        now_ms, bodies = int(self._clock.now().timestamp() * 1000), []
        for answer in answers:
            self._check_lease(answer)
            sealed = answer.sealed
            if isinstance(sealed, OpenedRequest) and answer.opened is not None and answer.response is not None:
                bodies.append(self._body(answer.opened.model, sealed, answer.response, now_ms))
        receipts = iter(receipt.issue(bodies, self._receipt_key) if bodies else ())
        return [_result(answer, receipts, now_ms) for answer in answers]

    def _check_lease(self, answer: Answer) -> None:
        if answer.opened is not None and answer.response is not None:
            try:
                self._served.check(answer.opened.model)
            except NotReady as error:
                answer.response, answer.error = None, error

    def _body(self, model: ServedModel, sealed: OpenedRequest, response: bytes, now_ms: int) -> ReceiptBody:
        return ReceiptBody(
            version=receipt.VERSION,
            request_id=sealed.request_id,
            request_sha256=receipt.content_hash(sealed.request_id, sealed.request),
            response_sha256=receipt.content_hash(sealed.request_id, response),
            model_name=model.name,
            model_version=model.version,
            model_digest=model.digest,
            policy_digest=model.policy_digest,
            ear_id=sealed.ear_id,
            instance=self._instance,
            issued_at_ms=now_ms,
        )


def read(opened: Opened) -> Work:
    """Read the tensors of an opened request, having held them against the model.

    Raises:
        InvalidRequest: They do not fit; this is about the content.
    """
    request = opened.plain
    if opened.sealed is not None:
        request = parse_request(opened.sealed.request)
        named = (request.model_name, request.model_version)
        if named != (opened.sealed.model_name, opened.sealed.model_version):
            raise InvalidRequest("the request inside is for another model than it was sealed for")
    if request is None:
        raise ValueError("a request is sealed or in clear")
    engine = opened.model.engine
    contract = engine.contract
    contract.check_request(request)
    inputs = decode_request(request)
    engine.check(inputs)
    outputs = [output.name for output in request.outputs] or list(contract.output_datatypes)
    return Work(request.id, inputs, outputs)


def respond(call_id: int, opened: Opened, work: Work, outputs: Mapping[str, Array], most_bytes: int) -> Answer:
    """The answer that holds these outputs.

    Raises:
        InvalidRequest: It would be larger than a message may be.
    """
    model = opened.model
    if sum([array.nbytes for array in outputs.values()]) > most_bytes:  # before any of it is copied
        raise _too_large()
    response = encode_response(
        model.name,
        outputs,
        version=model.version,
        id=work.oip_id,
        datatypes=model.engine.contract.output_datatypes,
    )
    serialised = response.SerializeToString()
    if len(serialised) > most_bytes:
        raise _too_large()
    return Answer(call_id, opened, serialised)


def _too_large() -> InvalidRequest:
    return InvalidRequest("the answer would be larger than a message may be", reason="response.too_large")


def _result(answer: Answer, receipts: Iterator[Receipt], now_ms: int) -> InferResult:
    sealed, opened = answer.sealed, answer.opened
    if sealed is None or opened is None:
        if answer.error is not None:
            return InferResult(call_id=answer.call_id, failure=failure_of(answer.error))
        return InferResult(call_id=answer.call_id, response=answer.response)
    if isinstance(sealed, OpenedChunk):
        return _chunk_result(answer, sealed, opened.reply, now_ms)
    if answer.error is not None:
        message = OpenedResponse(failure=failure_of(answer.error))
    elif opened.reply is not None:
        message = opened.reply
    else:
        message = OpenedResponse(response=answer.response, receipt=next(receipts))
    carried = envelope.build_response(
        sealed.respond(message),
        model_name=opened.model.name,
        model_version=opened.model.version,
        request_id=opened.oip_id,
    )
    return InferResult(call_id=answer.call_id, response=carried.SerializeToString())


def _chunk_result(answer: Answer, chunk: OpenedChunk, reply: OpenedResponse | None, now_ms: int) -> InferResult:
    conversation = chunk.conversation
    if reply is not None:
        carried = conversation.seal(chunk, reply)
    elif not conversation.open:  # its receipts are signed, or it was broken
        return InferResult(call_id=answer.call_id, failure=failure_of(conversation_unknown()))
    elif answer.error is not None:
        carried = conversation.seal(chunk, OpenedResponse(failure=failure_of(answer.error)))
    else:
        carried = conversation.answer(chunk, answer.response or b"", now_ms)
    return InferResult(call_id=answer.call_id, response=carried)
