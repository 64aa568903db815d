"""Our Open Inference Protocol is the one that stock clients speak, and both live in one process."""

from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from cloister.api.oip import inference_pb2

METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelStreamInfer",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)


OUR_FIELDS = 100
"""Numbers from here on are ours."""
OUR_MESSAGES = {"ModelMetadataResponse.PropertiesEntry"}


def fields(descriptor: Any) -> dict[str, tuple[int, int, bool]]:
    return {f.name: (f.number, f.type, f.is_repeated) for f in descriptor.fields}


def nested(descriptor: Any) -> dict[str, Any]:
    flat = {descriptor.name: descriptor}
    for inner in descriptor.nested_types:
        flat |= {f"{descriptor.name}.{name}": d for name, d in nested(inner).items()}
    return flat


def messages(module: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for descriptor in module.DESCRIPTOR.message_types_by_name.values():
        flat |= nested(descriptor)
    return flat


def test_messages_are_those_of_triton_field_by_field() -> None:
    theirs = messages(service_pb2)
    for name, ours in messages(inference_pb2).items():
        standard = {field: made for field, made in fields(ours).items() if made[0] < OUR_FIELDS}
        if standard and name not in OUR_MESSAGES:
            assert standard.items() <= fields(theirs[name]).items(), name


@pytest.mark.parametrize("method", METHODS)
def test_methods_have_the_standard_names_types_and_streaming(method: str) -> None:
    ours = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert ours.full_name == theirs.full_name == "inference.GRPCInferenceService"
    mine, stock = ours.methods_by_name[method], theirs.methods_by_name[method]
    assert mine.input_type.full_name == stock.input_type.full_name
    assert mine.output_type.full_name == stock.output_type.full_name
    assert (mine.client_streaming, mine.server_streaming) == (stock.client_streaming, stock.server_streaming)


def test_a_stock_request_reads_as_ours_and_back() -> None:
    stock = service_pb2.ModelInferRequest(model_name="m", id="7", raw_input_contents=[b"\x00\x01"])
    stock.parameters["p"].string_param = "v"
    stock.inputs.add(name="x", datatype="UINT8", shape=[2])
    ours = inference_pb2.ModelInferRequest.FromString(stock.SerializeToString(deterministic=True))
    assert ours.parameters["p"].string_param == "v"
    assert ours.SerializeToString(deterministic=True) == stock.SerializeToString(deterministic=True)
