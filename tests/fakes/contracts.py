"""A model's contract with something of everything, and both ends of the mesh that hold requests against it."""

from __future__ import annotations

import numpy as np

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.contract import ModelContract, TensorSpec
from cloister.errors import InvalidRequest
from cloister.gateway.headers import check_tensors
from cloister.gateway.wire import read_request
from cloister.oip.tensors import decode_request, encode_request, parse_request

CONTRACT = ModelContract(
    inputs=(
        TensorSpec("image", "FP32", (-1, 3)),
        TensorSpec("flag", "BOOL", ()),
        TensorSpec("words", "BYTES", (-1,)),
        TensorSpec("counts", "INT8", (2, -1)),
    ),
    outputs=(TensorSpec("p", "FP32", (-1, 2)), TensorSpec("q", "INT64", (-1,))),
)


def arrays() -> dict[str, np.ndarray]:
    """Inputs that fit."""
    return {
        "image": np.arange(6, dtype=np.float32).reshape(2, 3),
        "flag": np.array(True),
        "words": np.array([b"one", b"", b"three"], object),
        "counts": np.array([[1, -2], [3, -128]], np.int8),
    }


def raw_request(**fields: object) -> ModelInferRequest:
    """A good request with raw contents."""
    return encode_request("everything", arrays(), version="7", id="r-1", outputs=("q", "p"), **fields)


def typed_request() -> ModelInferRequest:
    """A good request with typed contents."""
    request = ModelInferRequest(model_name="everything", model_version="7", id="r-1")
    for (name, array), kind, datatype in zip(
        arrays().items(),
        ("fp32_contents", "bool_contents", "bytes_contents", "int_contents"),
        ("FP32", "BOOL", "BYTES", "INT8"),
        strict=True,
    ):
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        getattr(tensor.contents, kind).extend(array.ravel().tolist())
    return request


def told_by_gateway(raw: bytes) -> str:
    """Why the gateway refuses a request; empty where it does not."""
    try:
        check_tensors(CONTRACT, read_request(raw)[1])
    except InvalidRequest as error:
        return str(error)
    return ""


def told_by_worker(raw: bytes) -> str:
    """Why the worker refuses a request; empty where it does not."""
    try:
        request = parse_request(raw)
        CONTRACT.check_request(request)
        decode_request(request)
    except InvalidRequest as error:
        return str(error)
    return ""
