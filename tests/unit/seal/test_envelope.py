from __future__ import annotations

from collections.abc import Callable

import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import envelope


def _request() -> ModelInferRequest:
    return envelope.build_request(
        b"sealed", model_name="resnet", model_version="1", instances=["a" * 32, "b" * 32], request_id="7"
    )


def _response() -> ModelInferResponse:
    return envelope.build_response(b"sealed", model_name="resnet", model_version="1", request_id="7")


def test_a_request_envelope_is_an_ordinary_request() -> None:
    built = ModelInferRequest.FromString(_request().SerializeToString())
    assert (built.model_name, built.model_version, built.id) == ("resnet", "1", "7")
    assert built.parameters["cloister-seal"].string_param == "v1"
    assert built.parameters["cloister-workers"].string_param == "a" * 32 + "," + "b" * 32
    tensor = built.inputs[0]
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("cloister.sealed", "UINT8", [6])
    assert envelope.is_sealed(built)
    assert envelope.sealed_request(built) == b"sealed"


def test_a_response_envelope_is_an_ordinary_response() -> None:
    built = ModelInferResponse.FromString(_response().SerializeToString())
    assert (built.model_name, built.model_version, built.id) == ("resnet", "1", "7")
    assert envelope.sealed_response(built) == b"sealed"


def test_an_ordinary_message_is_not_sealed() -> None:
    plain = ModelInferRequest(model_name="resnet", raw_input_contents=[b"x"])
    assert not envelope.is_sealed(plain)
    with pytest.raises(SealBroken):
        envelope.sealed_request(plain)
    with pytest.raises(SealBroken):
        envelope.sealed_response(ModelInferResponse(model_name="resnet", raw_output_contents=[b"x"]))


def test_another_version_is_named_as_such() -> None:
    request, response = _request(), _response()
    request.parameters["cloister-seal"].string_param = "v2"
    with pytest.raises(InvalidRequest) as raised:
        envelope.sealed_request(request)
    assert raised.value.reason == "seal.version_unknown"
    response.parameters["cloister-seal"].string_param = "v2"
    with pytest.raises(SealBroken):
        envelope.sealed_response(response)


def _two_tensors(request: ModelInferRequest) -> None:
    request.inputs.add(name="cloister.sealed", datatype="UINT8", shape=[6])


def _other_shape(request: ModelInferRequest) -> None:
    request.inputs[0].shape[:] = [7]


def _other_name(request: ModelInferRequest) -> None:
    request.inputs[0].name = "image"


def _other_type(request: ModelInferRequest) -> None:
    request.inputs[0].datatype = "BYTES"


def _two_contents(request: ModelInferRequest) -> None:
    request.raw_input_contents.append(b"more")


def _no_content(request: ModelInferRequest) -> None:
    del request.raw_input_contents[:]


@pytest.mark.parametrize("change", [_two_tensors, _other_shape, _other_name, _other_type, _two_contents, _no_content])
def test_an_envelope_has_one_form(change: Callable[[ModelInferRequest], None]) -> None:
    request = _request()
    change(request)
    with pytest.raises(SealBroken):
        envelope.sealed_request(request)
