"""Every datatype that OpenVINO has, raw and typed, in every rank, through all of the worker: the bits of OpenVINO."""

from __future__ import annotations

import itertools

import numpy as np
import openvino as ov
import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.errors import InvalidRequest
from cloister.oip.datatypes import DATATYPES
from cloister.oip.tensors import decode_response, encode_request
from cloister.worker.batches import Item
from cloister.worker.engine import OpenVinoEngine
from cloister.worker.refusals import ModelRefused
from cloister.worker.requests import read
from cloister.worker.results import respond
from cloister.worker.tuning import Tuning
from fakes import clocks, networks
from fakes.attested_worker import MODEL, Client, Inside, opened
from fakes.refusals import because

SHAPES = ((), (3,), (2, 3), (2, 1, 3), (2, 1, 3, 2))
CASES = [(shape, False) for shape in SHAPES] + [(shape, True) for shape in SHAPES if shape]
TYPED = tuple(name for name in networks.TYPES if DATATYPES[name].typed_field)
ODD = (0.1, -0.0, np.nan, np.inf, -np.inf, 6e-8, -3e38)


def values_of(datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The least and the greatest values that go through unchanged, and what is odd about floating-point numbers."""
    dtype, count = DATATYPES[datatype].dtype, int(np.prod(shape))
    if datatype == "BOOL":
        values = [True, False]
    elif datatype == "BF16":
        values = [0x3DCD, 0x8000, 0x7FC1, 0x7F80, 0xFF80, 0x0001, 0xFF61]
    elif dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = np.array(ODD, dtype).tolist()
    else:
        least, greatest = np.iinfo(dtype).min, np.iinfo(dtype).max
        values = [max(least, -(1 << 31)), min(greatest, (1 << 31) - 1), 0, 1, 7]
    return np.array([*itertools.islice(itertools.cycle(values), count)], dtype).reshape(shape)


def in_process(model: ov.Model, config: dict, inputs: dict[str, np.ndarray]) -> dict[str, bytes]:
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
    for name, array in inputs.items():
        tensor = ov.Tensor(networks.TYPES[name], list(array.shape))
        tensor.data.view(array.dtype)[...] = array
        request.set_tensor(name, tensor)
    request.infer()
    return {port.get_any_name(): request.get_tensor(port).data.tobytes() for port in model.outputs}


def raw(inputs: dict[str, np.ndarray], **more) -> ModelInferRequest:
    return encode_request(MODEL, inputs, datatypes={name: name for name in inputs}, **more)


def typed(inputs: dict[str, np.ndarray]) -> ModelInferRequest:
    request = ModelInferRequest(model_name=MODEL)
    for name, array in inputs.items():
        tensor = request.inputs.add(name=name, datatype=name, shape=array.shape)
        getattr(tensor.contents, DATATYPES[name].typed_field).extend(array.ravel().tolist())
    return request


def answered(inside: Inside, request: ModelInferRequest) -> ModelInferResponse:
    """What the link does for one quick call."""
    found = inside.answers.open(request.SerializeToString())
    work = read(found)
    (outcome,) = found.model.engine.infer_now([Item(work.inputs, work.outputs)])
    assert not isinstance(outcome, Exception)
    answer = respond(1, found, work, outcome, 1 << 20)
    return ModelInferResponse.FromString(inside.answers.finish([answer])[0].response)


def engine_of(shape: tuple[int, ...], *, dynamic: bool = False, names=networks.TYPES) -> OpenVinoEngine:
    model = networks.every_type(tuple(-1 for _ in shape) if dynamic else shape, names)
    return OpenVinoEngine(model, tuning=Tuning(clock_s=clocks.quick()))


def bits(response: ModelInferResponse) -> dict[str, bytes]:
    decoded = decode_response(response)
    assert [output.datatype for output in response.outputs] == [name.split()[1] for name in decoded]
    return {name: array.tobytes() for name, array in decoded.items()}


@pytest.mark.parametrize(("shape", "dynamic"), CASES)
def test_answers_are_those_of_openvino_bit_for_bit(shape, dynamic):
    engine = engine_of(shape, dynamic=dynamic)
    inputs = {name: values_of(name, shape) for name in networks.TYPES}
    expected = in_process(networks.every_type(shape), engine.config, inputs)
    response = answered(Inside(engine=engine), raw(inputs))
    assert bits(response) == expected
    assert {tuple(output.shape) for output in response.outputs} == {shape}
    for name in networks.TYPES.keys() - {"FP64"}:  # OpenVINO keeps that in 32 bits
        assert expected[f"same {name}"] == inputs[name].tobytes()


@pytest.mark.parametrize("shape", SHAPES)
def test_typed_contents_are_answered_as_raw_ones(shape):
    inside = Inside(engine=engine_of(shape, names=TYPED))
    inputs = {name: values_of(name, shape) for name in TYPED}
    assert bits(answered(inside, typed(inputs))) == bits(answered(inside, raw(inputs)))


def test_empty_tensors_have_empty_answers():
    inside = Inside(engine=engine_of((0, 3), dynamic=True, names=TYPED))
    inputs = {name: np.zeros((0, 3), DATATYPES[name].dtype) for name in TYPED}
    for request in (raw(inputs), typed(inputs)):
        response = answered(inside, request)
        assert {tuple(output.shape) for output in response.outputs} == {(0, 3)}
        assert set(bits(response).values()) == {b""}


@pytest.fixture(scope="module")
def rows() -> OpenVinoEngine:
    return engine_of((2,))


@pytest.fixture
def inside(rows) -> Inside:
    return Inside(engine=rows)


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    return {name: values_of(name, (2,)) for name in networks.TYPES}


def test_outputs_come_in_the_order_in_which_they_are_asked_for(inside, inputs):
    wanted = ("made BF16", "same BOOL", "made INT64")
    response = answered(inside, raw(inputs, outputs=wanted))
    assert tuple(output.name for output in response.outputs) == wanted
    assert bits(response) == {
        name: found for name, found in bits(answered(inside, raw(inputs))).items() if name in wanted
    }


def test_inputs_may_come_in_any_order(inside, inputs):
    backwards = dict(reversed(inputs.items()))
    assert bits(answered(inside, raw(backwards))) == bits(answered(inside, raw(inputs)))


def test_the_id_comes_back_and_parameters_do_not(inside, inputs):
    request = raw(inputs, id="r-7", parameters={"priority": 3, "sequence_id": "s", "timeout": 5})
    response = answered(inside, request)
    assert (response.id, response.model_name, response.model_version) == ("r-7", MODEL, "2")
    assert not response.parameters


def test_a_sealed_request_has_the_same_bits(inside, inputs):
    request, (carried, pending) = raw(inputs), Client(inside).seal(raw(inputs))
    response = answered(inside, ModelInferRequest.FromString(carried))
    sealed = opened(pending, response.SerializeToString())
    assert bits(ModelInferResponse.FromString(sealed.response)) == bits(answered(inside, request))


def refused(inside: Inside, request: ModelInferRequest) -> str:
    with pytest.raises(InvalidRequest) as caught:
        answered(inside, request)
    return str(caught.value)


@pytest.mark.parametrize("name", networks.TYPES)
def test_strings_for_a_model_that_takes_none_are_refused(inside, inputs, name):
    words = raw(inputs)
    at = list(networks.TYPES).index(name)
    words.inputs[at].datatype = "BYTES"
    words.raw_input_contents[at] = b"\x03\0\0\0one\x03\0\0\0two"
    assert refused(inside, words) == f"tensor '{name}': datatype 'BYTES', the model takes {name}"


@pytest.mark.parametrize("kind", ["string", "u4", "i4", "nf4", "f8e4m3"])
def test_a_model_of_an_element_type_that_the_protocol_cannot_carry_is_not_served(kind):
    x = ov.opset13.parameter([-1], getattr(ov.Type, kind), name="x")
    with pytest.raises(ModelRefused, check=because(f"input 'x': element type {kind} is not served")):
        OpenVinoEngine(ov.Model([ov.opset13.result(x)], [x], "odd"))


def test_a_model_that_takes_any_number_of_dimensions_is_not_served():
    x = ov.opset13.parameter(ov.PartialShape.dynamic(), np.float32, name="x")
    with pytest.raises(ModelRefused, check=because("input 'x': an open number of dimensions is not served")):
        OpenVinoEngine(ov.Model([ov.opset13.result(x)], [x], "open"))


OVER = {"INT64": (1 << 31, -(1 << 31) - 1, (1 << 63) - 1), "UINT64": (1 << 31, 1 << 63), "UINT32": (1 << 31,)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OVER.items() for value in values])
def test_a_number_that_openvino_would_wrap_is_refused(inside, inputs, name, value):
    inputs[name] = np.array([1, value], DATATYPES[name].dtype)
    assert refused(inside, raw(inputs)) == f"tensor '{name}': an element is beyond the 32 bits that are evaluated"


def test_a_number_that_is_converted_first_may_be_of_any_size():
    x = ov.opset13.parameter([2], ov.Type.i64, name="INT64")
    x.output(0).set_names({"INT64"})
    y = ov.opset13.convert(x, "f32")
    y.output(0).set_names({"same FP32"})
    engine = OpenVinoEngine(ov.Model([ov.opset13.result(y)], [x], "times"), tuning=Tuning(clock_s=clocks.quick()))
    times = np.array([1_700_000_000_000, -(1 << 62)], np.int64)
    found = bits(answered(Inside(engine=engine), raw({"INT64": times})))
    assert found["same FP32"] == times.astype(np.float32).tobytes()


@pytest.mark.attack("I08")
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("form", [raw, typed])
def test_a_tensor_with_too_few_elements_is_never_completed_from_another_request(form, sealed):
    """What Cluster Serving did: a shorter tensor was filled up with what a longer one had left behind."""
    inside = Inside(engine=engine_of((-1, 4), names=("FP32",)))
    client = Client(inside)

    def ask(request: ModelInferRequest) -> ModelInferResponse:
        if not sealed:
            return answered(inside, request)
        carried, pending = client.seal(request)
        response = answered(inside, ModelInferRequest.FromString(carried))
        return ModelInferResponse.FromString(opened(pending, response.SerializeToString()).response)

    secret = np.full((3, 4), 4242, np.float32)
    assert decode_response(ask(form({"FP32": secret})))["same FP32"].tolist() == secret.tolist()
    for shape in ((3, 4), (1, 4), (2, 4)):
        short = form({"FP32": np.ones((1, 3), np.float32)})
        short.inputs[0].shape[:] = shape
        with pytest.raises(InvalidRequest, match=r"tensor 'FP32': (12 bytes|3 elements)"):
            ask(short)
    after = decode_response(ask(form({"FP32": np.ones((1, 4), np.float32)})))
    assert after["same FP32"].tolist() == [[1, 1, 1, 1]]
