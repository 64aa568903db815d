"""The envelope: an ordinary OIP v2 message that carries a sealed one, so that any OIP proxy can carry it too.

The model's name is in clear, for routing; `cloister-seal` says what the one tensor holds, and `cloister-workers` which
instances can open it. The envelope of a job (`job-v1`) names none, since each can that has the epoch's key. Nothing in
the envelope is believed by either end: what counts is inside the seal. What stands in clear must say the same all the
same, so that a gateway which changes it is noticed rather than put up with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.errors import InvalidRequest, SealBroken

SEAL_PARAMETER: Final = "cloister-seal"
WORKERS_PARAMETER: Final = "cloister-workers"
SEAL_VERSION: Final = "v1"
JOB_VERSION: Final = "job-v1"
TENSOR: Final = "cloister.sealed"
DATATYPE: Final = "UINT8"

_Envelope: TypeAlias = ModelInferRequest | ModelInferResponse
_Tensor: TypeAlias = ModelInferRequest.InferInputTensor | ModelInferResponse.InferOutputTensor


def build_request(
    sealed: bytes, *, model_name: str, model_version: str = "", instances: Sequence[str], request_id: str = ""
) -> ModelInferRequest:
    """Put a serialised SealedRequest into an envelope.

    Args:
        sealed: From `ClientSessions.seal`.
        model_name: In clear, as is `model_version`.
        model_version: May be empty.
        instances: The workers that it is sealed to.
        request_id: The OIP id, for the caller's own use.
    """
    envelope = ModelInferRequest(model_name=model_name, model_version=model_version, id=request_id)
    envelope.parameters[SEAL_PARAMETER].string_param = SEAL_VERSION
    envelope.parameters[WORKERS_PARAMETER].string_param = ",".join(instances)
    envelope.inputs.add(name=TENSOR, datatype=DATATYPE, shape=[len(sealed)])
    envelope.raw_input_contents.append(sealed)
    return envelope


def build_response(sealed: bytes, *, model_name: str, model_version: str, request_id: str = "") -> ModelInferResponse:
    """Put a serialised SealedResponse into an envelope."""
    return _response(sealed, SEAL_VERSION, model_name, model_version, request_id)


def build_job(sealed: bytes, *, model_name: str, model_version: str = "", request_id: str = "") -> ModelInferRequest:
    """Put a serialised SealedJob into an envelope; arguments as of `build_request`."""
    envelope = ModelInferRequest(model_name=model_name, model_version=model_version, id=request_id)
    envelope.parameters[SEAL_PARAMETER].string_param = JOB_VERSION
    envelope.inputs.add(name=TENSOR, datatype=DATATYPE, shape=[len(sealed)])
    envelope.raw_input_contents.append(sealed)
    return envelope


def build_job_result(sealed: bytes, *, model_name: str, model_version: str, request_id: str = "") -> ModelInferResponse:
    """Put a serialised SealedJobResult into an envelope; the rest is as in the job's."""
    return _response(sealed, JOB_VERSION, model_name, model_version, request_id)


def is_sealed(request: ModelInferRequest) -> bool:
    """Whether a request says that it is sealed; one that does is never answered in clear."""
    return SEAL_PARAMETER in request.parameters


def sealed_request(envelope: ModelInferRequest) -> bytes:
    """Return the serialised SealedRequest of an envelope.

    Raises:
        InvalidRequest: Sealed in a version that is not known.
        SealBroken: Not an envelope.
    """
    if is_sealed(envelope) and envelope.parameters[SEAL_PARAMETER].string_param != SEAL_VERSION:
        raise InvalidRequest("this version of sealing is not known", reason="seal.version_unknown")
    return _content(envelope, envelope.inputs, envelope.raw_input_contents)


def check_request(
    envelope: ModelInferRequest, *, model_name: str, model_version: str, instances: Sequence[str]
) -> None:
    """Hold what an envelope says in clear against what was sealed.

    Raises:
        SealBroken: Another model or version, or other recipients.
    """
    stated = (envelope.model_name, envelope.model_version, envelope.parameters[WORKERS_PARAMETER].string_param)
    if stated != (model_name, model_version, ",".join(instances)):
        raise SealBroken


def is_job(request: ModelInferRequest) -> bool:
    """Whether a request says that it is a sealed job."""
    return is_sealed(request) and request.parameters[SEAL_PARAMETER].string_param == JOB_VERSION


def sealed_job(envelope: ModelInferRequest) -> bytes:
    """Return the serialised SealedJob of an envelope; raises SealBroken for what is none."""
    return _content(envelope, envelope.inputs, envelope.raw_input_contents, JOB_VERSION)


def check_job(envelope: ModelInferRequest, *, model_name: str, model_version: str) -> None:
    """Hold what a job's envelope says in clear against what was sealed.

    Raises:
        SealBroken: Another model or version, or it names workers.
    """
    if (envelope.model_name, envelope.model_version) != (model_name, model_version):
        raise SealBroken
    if WORKERS_PARAMETER in envelope.parameters:
        raise SealBroken


def sealed_job_result(envelope: ModelInferResponse, *, model_name: str, model_version: str) -> bytes:
    """Return the serialised SealedJobResult of an envelope.

    Raises:
        SealBroken: Not the one envelope that may be around an answer to this job: nothing in it is left to who carries
            it.
    """
    sealed = _content(envelope, envelope.outputs, envelope.raw_output_contents, JOB_VERSION)
    if envelope != build_job_result(sealed, model_name=model_name, model_version=model_version):
        raise SealBroken
    return sealed


def sealed_response(envelope: ModelInferResponse) -> bytes:
    """Return the serialised SealedResponse of an envelope.

    Raises:
        SealBroken: Not an envelope: an answer in clear to a sealed request is no answer.
    """
    return _content(envelope, envelope.outputs, envelope.raw_output_contents)


def _response(sealed: bytes, version: str, model_name: str, model_version: str, request_id: str) -> ModelInferResponse:
    envelope = ModelInferResponse(model_name=model_name, model_version=model_version, id=request_id)
    envelope.parameters[SEAL_PARAMETER].string_param = version
    envelope.outputs.add(name=TENSOR, datatype=DATATYPE, shape=[len(sealed)])
    envelope.raw_output_contents.append(sealed)
    return envelope


def _content(
    envelope: _Envelope, tensors: Sequence[_Tensor], raw_contents: Sequence[bytes], version: str = SEAL_VERSION
) -> bytes:
    if SEAL_PARAMETER not in envelope.parameters or len(tensors) != 1 or len(raw_contents) != 1:
        raise SealBroken
    if envelope.parameters[SEAL_PARAMETER].string_param != version:
        raise SealBroken
    tensor, sealed = tensors[0], raw_contents[0]
    if (tensor.name, tensor.datatype, list(tensor.shape)) != (TENSOR, DATATYPE, [len(sealed)]):
        raise SealBroken
    return sealed
