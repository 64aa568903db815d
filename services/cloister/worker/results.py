"""What goes back for a call: a response or an error, and the result that it becomes on the link.

What is wrong with the content of a sealed request is content, and goes back sealed. All other errors go back for the
gateway to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cloister.api.v1.seal_pb2 import OpenedJobResult, OpenedResponse, Receipt
from cloister.api.v1.worker_pb2 import Evaluation, InferResult, WorkerFrame
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.oip.tensors import encode_response
from cloister.rpc.status import failure_of
from cloister.seal import envelope
from cloister.seal.conversation_worker import OpenedChunk, conversation_unknown
from cloister.seal.job_worker import OpenedJob
from cloister.seal.session import OpenedRequest
from cloister.worker.attester import OwnResult
from cloister.worker.requests import Opened, Work


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
    def sealed(self) -> OpenedRequest | OpenedChunk | OpenedJob | None:
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


def result_of(answer: Answer, receipts: Iterator[Receipt], now_ms: int, vouched: OwnResult) -> InferResult:
    """The result of a call.

    Args:
        answer: What goes back.
        receipts: The next one is this answer's, where it has one.
        now_ms: When it leaves.
        vouched: The Attestation Result that the receipts of jobs name.
    """
    sealed, opened = answer.sealed, answer.opened
    if sealed is None or opened is None:
        if answer.error is not None:
            return InferResult(call_id=answer.call_id, failure=failure_of(answer.error))
        return InferResult(call_id=answer.call_id, response=answer.response)
    if isinstance(sealed, OpenedChunk):
        return _chunk_result(answer, sealed, opened.reply, now_ms)
    if isinstance(sealed, OpenedJob):
        return _job_result(answer, sealed, opened, receipts, vouched)
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


def _job_result(
    answer: Answer, job: OpenedJob, opened: Opened, receipts: Iterator[Receipt], vouched: OwnResult
) -> InferResult:
    """An answer that proves itself to whoever has its ticket: he may find nobody any more to ask who gave it."""
    if answer.error is not None:
        result = OpenedJobResult(failure=failure_of(answer.error))
    else:
        result = OpenedJobResult(response=answer.response, receipt=next(receipts))
        if vouched.ear_id in job.known_results:
            result.known_result = job.known_results.index(vouched.ear_id) + 1
        else:
            result.attestation_result = vouched.token
    carried = envelope.build_job_result(
        job.respond(result),
        model_name=job.model_name,
        model_version=job.model_version,
        request_id=opened.oip_id,
    )
    return InferResult(call_id=answer.call_id, response=carried.SerializeToString())


def _too_large() -> InvalidRequest:
    return InvalidRequest("the answer would be larger than a message may be", reason="response.too_large")


def number_evaluations(frame: WorkerFrame, batch: Sequence[Answer]) -> None:
    """List the evaluations whose results are in a frame, and say of each result which it was."""
    numbers: dict[int, int] = {}
    evaluations = frame.report.evaluations
    for result, answer in zip(frame.results, batch, strict=True):
        timing = answer.timing
        if timing is not None:
            number = numbers.get(id(timing))
            if number is None:
                number = numbers[id(timing)] = len(numbers) + 1
                evaluations.append(timing)
            result.evaluation = number
