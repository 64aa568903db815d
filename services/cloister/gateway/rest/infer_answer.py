"""A `ModelInferResponse` as the protocol's REST form: JSON, and behind it the outputs that were wanted as bytes."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.responses import Response

from cloister.api.oip.inference_pb2 import InferParameter, ModelInferResponse
from cloister.errors import InternalError, InvalidRequest
from cloister.gateway.rest.infer_request import Wanted
from cloister.gateway.rest.numbers import to_json

HEADER_LENGTH: Final = "inference-header-content-length"
BINARY_TYPE: Final = "application/octet-stream"
JSON_TYPE: Final = "application/json"
MAX_JSON_BYTES: Final = 16 << 20
"""Of the contents of outputs that an answer writes as JSON, which takes several times as much."""


def infer_answer(raw: bytes, wanted: Wanted) -> Response:
    """The answer to an inference.

    Raises:
        InvalidRequest: JSON has no word for an output, or they are too large for it; the message says what to ask for.
    """
    message = ModelInferResponse.FromString(raw)
    contents = message.raw_output_contents
    if len(contents) != len(message.outputs):
        raise InternalError("the answer has no raw contents")
    written = sum(
        len(each) for each, out in zip(contents, message.outputs, strict=True) if not wanted.as_bytes(out.name)
    )
    check_written(written)
    said: dict[str, Any] = {"model_name": message.model_name, "model_version": message.model_version}
    if message.id:
        said["id"] = message.id
    if message.parameters:
        said["parameters"] = parameters_of(message.parameters)
    outputs, binary = [], []
    for output, content in zip(message.outputs, contents, strict=True):
        head: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        parameters = parameters_of(output.parameters)
        if wanted.as_bytes(output.name):
            parameters["binary_data_size"] = len(content)
            binary.append(content)
        else:
            head["data"] = msgspec.Raw(to_json(content, output.datatype, output.name))
        if parameters:
            head["parameters"] = parameters
        outputs.append(head)
    text = msgspec.json.encode({**said, "outputs": outputs})
    if not binary:
        return Response(text, media_type=JSON_TYPE)
    return Response(b"".join([text, *binary]), media_type=BINARY_TYPE, headers={HEADER_LENGTH: str(len(text))})


def check_written(size_bytes: int) -> None:
    """Raise `InvalidRequest` if so much is not to be written as JSON."""
    if size_bytes > MAX_JSON_BYTES:
        raise InvalidRequest(
            f"the outputs have {size_bytes} bytes, which is too much for JSON; ask for them with binary_data_output",
            reason="answer.too_large",
        )


def parameters_of(parameters: Any) -> dict[str, Any]:
    """Parameters as JSON has them."""
    return {name: _value(parameter) for name, parameter in parameters.items()}


def _value(parameter: InferParameter) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)
