"""A request whose model is here, sealed or in clear, and the tensors in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1.seal_pb2 import OpenedResponse
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.oip.tensors import decode_request, parse_request
from cloister.seal.conversation_worker import OpenedChunk
from cloister.seal.job_worker import OpenedJob
from cloister.seal.session import OpenedRequest
from cloister.worker.served import ServedModel


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
    sealed: OpenedRequest | OpenedChunk | OpenedJob | None = field(default=None, repr=False)
    reply: OpenedResponse | None = field(default=None, repr=False)

    def party(self, tenant: str) -> bytes:
        """Whose it is: of a sealed session, which nobody else can claim, or of the tenant that the gateway names."""
        if isinstance(self.sealed, OpenedJob):
            return b"job " + self.sealed.party
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
