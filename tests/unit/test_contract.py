"""A model's contract, held against requests and arrays."""

import numpy as np
import pytest

from cloister.api.oip.inference_pb2 import ModelMetadataResponse
from cloister.contract import ModelContract, TensorSpec
from cloister.errors import InvalidRequest
from cloister.oip.tensors import encode_request

CONTRACT = ModelContract(
    inputs=(TensorSpec("image", "FP32", (-1, 3)), TensorSpec("scale", "BF16", (1,)), TensorSpec("free", "INT64", None)),
    outputs=(TensorSpec("p", "FP32", (-1, 2)), TensorSpec("q", "INT64", (-1,))),
)


def arrays():
    return {
        "image": np.zeros((4, 3), np.float32),
        "scale": np.zeros(1, np.uint16),
        "free": np.zeros((1, 2, 3), np.int64),
    }


def request(**changes):
    return encode_request("m", arrays() | changes, datatypes={"scale": "BF16"}, outputs=("q", "p"))


def refused(bad):
    with pytest.raises(InvalidRequest) as caught:
        CONTRACT.check_request(bad)
    return str(caught.value)


def test_what_fits_passes():
    CONTRACT.check_request(request())


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("image", np.zeros((4, 3), np.float64)),
        ("image", np.zeros((4, 4), np.float32)),
        ("image", np.zeros(3, np.float32)),
        ("image", np.zeros((1, 1, 3), np.float32)),
        ("scale", np.zeros(2, np.uint16)),
        ("free", np.zeros(2, np.int32)),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, array):
    assert f"tensor '{name}'" in refused(request(**{name: array}))


def test_uint16_is_not_bf16_on_the_wire():
    bad = request()
    bad.inputs[1].datatype = "UINT16"
    assert "tensor 'scale'" in refused(bad)


def test_missing_unknown_twice():
    bad = request()
    del bad.inputs[2]
    assert "tensor 'free' is missing" in refused(bad)
    assert "no input 'extra'" in refused(request(extra=np.zeros(1)))
    bad = request()
    bad.inputs.append(bad.inputs[0])
    assert "tensor 'image' comes twice" in refused(bad)
    bad = request()
    del bad.inputs[:]
    assert "'image' is missing" in refused(bad)


def test_outputs():
    bad = request()
    bad.outputs.add(name="r")
    assert "no output 'r'" in refused(bad)
    bad = request()
    bad.outputs.add(name="p")
    assert "output 'p' is asked for twice" in refused(bad)
    bad = request()
    bad.outputs[0].parameters["classification"].int64_param = 3
    assert "output 'q'" in refused(bad)


def test_headers_are_enough_to_refuse_an_absurd_tensor():
    bad = request()
    bad.inputs[0].shape[:] = [1 << 62, 4]
    assert "tensor 'image'" in refused(bad)


def test_metadata_says_the_same():
    metadata = CONTRACT.metadata("m", "7", "openvino")
    assert (metadata.name, metadata.versions, metadata.platform) == ("m", ["7"], "openvino")
    assert metadata.inputs[2].shape == [-1]
    again = ModelContract.from_metadata(ModelMetadataResponse.FromString(metadata.SerializeToString()))
    assert again.outputs == CONTRACT.outputs
    assert again.inputs[:2] == CONTRACT.inputs[:2]


def test_metadata_of_an_unknown_datatype():
    metadata = CONTRACT.metadata("m", "7", "openvino")
    metadata.inputs[0].datatype = "FP31"
    with pytest.raises(InvalidRequest, match="'image'"):
        ModelContract.from_metadata(metadata)
