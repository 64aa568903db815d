"""Lengths and counts from a request: kept to what there is, and what keeps to it stays as it is (attacks I08, I09)."""

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cloister.errors import InvalidRequest
from cloister.worker.batches import Item
from cloister.worker.engine import OpenVinoEngine
from cloister.worker.ports import contract_of
from cloister.worker.refusals import ModelRefused
from cloister.worker.safety import make_safe
from cloister.worker.shapes import ShapeGuard
from fakes.refusals import because

STEPS, HIDDEN, ROWS = 6, 4, 2
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HOSTILE = (STEPS + 1, 10**6, 2**31 - 1, -1, -(2**31))
WRAPPED = (2**40, -(2**40), 2**63 - 1)
"""32 bits of these are what the plugin sees."""


def named(shape, kind, name):
    parameter = ops.parameter(list(shape), kind, name=name)
    parameter.output(0).set_names({name})
    return parameter


def sequence(kind, direction="forward", *, steps=STEPS, lengths="i8", told=None):
    """`x` [2, steps, 3] and, unless `told`, `at` [2] in: how many steps of x count, as a request says or as `told`."""
    rng, many = np.random.default_rng(7), 2 if direction == "bidirectional" else 1
    x, at = named((ROWS, steps, 3), np.float32, "x"), named((ROWS,), np.dtype(lengths), "at")
    gates = GATES[kind] * HIDDEN
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((many, gates, 3), (many, gates, HIDDEN))]
    begin = ops.constant(np.zeros((ROWS, many, HIDDEN), np.float32))
    begins = [begin, begin] if kind == "LSTM" else [begin]
    build = {"LSTM": ops.lstm_sequence, "GRU": ops.gru_sequence, "RNN": ops.rnn_sequence}[kind]
    counted = told(x) if told else at
    y = build(x, *begins, counted, *weights, np.zeros((many, gates), np.float32), HIDDEN, direction).output(0)
    return model_of(y, [x] if told else [x, at])


def reversing(*, steps=STEPS, lengths="i8"):
    x, at = named((ROWS, steps, 3), np.float32, "x"), named((ROWS,), np.dtype(lengths), "at")
    return model_of(ops.reverse_sequence(x, at, 0, 1).output(0), [x, at])


def largest(*, steps=STEPS, count=None):
    x, at = named((ROWS, steps, 3), np.float32, "x"), named((), np.int64, "at")
    taken = ops.topk(x, at if count is None else ops.constant(np.int64(count)), 1, "max", "value")
    return model_of(taken.output(0), [x, at] if count is None else [x])


def model_of(output, parameters):
    output.set_names({"y"})
    return ov.Model([ops.result(output)], parameters, "limited")


def safe(model):
    make_safe(model)
    return model


def evaluated(model, inputs):
    return np.array(ov.Core().compile_model(model, "CPU").create_infer_request().infer(inputs)["y"])


X = np.random.default_rng(3).standard_normal((ROWS, STEPS, 3)).astype(np.float32)
LENGTHS = {
    "LSTM": lambda **given: sequence("LSTM", **given),
    "LSTM backwards": lambda **given: sequence("LSTM", "reverse", **given),
    "GRU both ways": lambda **given: sequence("GRU", "bidirectional", **given),
    "RNN": lambda **given: sequence("RNN", **given),
    "ReverseSequence": reversing,
}


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize(("steps", "lengths"), [(STEPS, "i8"), (STEPS, "i4")])
def test_lengths_in_range_give_the_same_bits(kind, steps, lengths):
    for told in ([STEPS, STEPS], [STEPS, 3], [0, 1]):
        inputs = {"x": X, "at": np.array(told, np.dtype(lengths))}
        expected = evaluated(LENGTHS[kind](steps=steps, lengths=lengths), inputs)
        found = evaluated(safe(LENGTHS[kind](steps=steps, lengths=lengths)), inputs)
        assert found.tobytes() == expected.tobytes()


@pytest.mark.attack("I08")
@pytest.mark.parametrize(("kind", "steps"), [*((kind, STEPS) for kind in LENGTHS), ("ReverseSequence", -1)])
def test_lengths_out_of_range_mean_all_steps_or_none(kind, steps):
    request = ov.Core().compile_model(safe(LENGTHS[kind](steps=steps)), "CPU").create_infer_request()

    def answer(*told):
        return np.array(request.infer({"x": X, "at": np.array(told, np.int64)})["y"]).tobytes()

    every, none = answer(STEPS, STEPS), answer(0, 0)
    for beyond in HOSTILE:
        assert answer(beyond, beyond) == (every if beyond > 0 else none)
    for wrapped in WRAPPED:
        assert answer(wrapped, wrapped) in [answer(length, length) for length in range(STEPS + 1)]


@pytest.mark.parametrize("kind", GATES)
def test_only_the_steps_that_count_do(kind):
    short, every = safe(sequence(kind)), safe(sequence(kind, steps=3))
    found = evaluated(short, {"x": X, "at": np.array([3, 3])})
    expected = evaluated(every, {"x": X[:, :3], "at": np.array([3, 3])})
    np.testing.assert_allclose(found[:, :, :3], expected, rtol=1e-6)
    assert not found[:, :, 3:].any()


def whole(x):
    """Every step counts, as ONNX models that give no lengths are read."""
    size = ops.shape_of(x)
    length, rows = (ops.gather(size, ops.constant([axis]), ops.constant([0])) for axis in (1, 0))
    return ops.broadcast(length, rows)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lengths_that_are_the_datas_own_may_be_open(direction):
    every = evaluated(safe(sequence("LSTM", direction)), {"x": X, "at": np.array([STEPS, STEPS])})
    found = evaluated(safe(sequence("LSTM", direction, steps=-1, told=whole)), {"x": X})
    np.testing.assert_allclose(found, every, rtol=1e-5, atol=1e-6)


@pytest.mark.attack("I08")
def test_lengths_from_other_sizes_are_limited():
    def doubled(x):
        return whole(ops.concat([x, x], 1))

    limited = safe(sequence("LSTM", "reverse", told=doubled))
    every = evaluated(sequence("LSTM", "reverse", told=whole), {"x": X})
    assert evaluated(limited, {"x": X}).tobytes() == every.tobytes()


@pytest.mark.parametrize("kind", GATES)
def test_lengths_that_openvino_would_ignore_are_refused(kind):
    """Over open steps it takes all; should this fail, it has learned better, and they may be let in."""
    for told in ([STEPS, STEPS], [STEPS, 1]):
        every = evaluated(sequence(kind, steps=-1), {"x": X, "at": np.array([STEPS, STEPS])})
        assert evaluated(sequence(kind, steps=-1), {"x": X, "at": np.array(told)}).tobytes() == every.tobytes()
    for told in (None, lambda _: ops.constant(np.array([3, 3]))):
        with pytest.raises(ModelRefused, check=because("whatever lengths it is told")) as caught:
            make_safe(sequence(kind, steps=-1, told=told))
        assert caught.value.reason == "model.operation_unsafe"


def test_constant_lengths_in_range_stay_and_others_do_not():
    def kinds(length):
        limited = safe(sequence("LSTM", told=lambda _: ops.constant(np.array([length, 1]))))
        return {node.get_type_name() for node in limited.get_ops()}

    assert "Minimum" not in kinds(STEPS)
    assert "Minimum" in kinds(STEPS + 1)
    assert "Minimum" in kinds(-1)


def test_a_count_in_range_gives_the_same_bits():
    for count in (1, 2, STEPS):
        inputs = {"x": X, "at": np.array(count)}
        for steps in (STEPS, -1):
            expected = evaluated(largest(steps=steps), inputs)
            assert evaluated(safe(largest(steps=steps)), inputs).tobytes() == expected.tobytes()


@pytest.mark.attack("I09")
@pytest.mark.parametrize("steps", [STEPS, -1])
async def test_a_count_out_of_range_is_all_or_one_and_the_engine_lives_on(steps):
    engine = OpenVinoEngine(safe(largest(steps=steps)))
    for beyond in (*HOSTILE, 0):
        found = await engine.infer(Item({"x": X, "at": np.array(beyond)}, ("y",)))
        assert found["y"].shape == (ROWS, STEPS if beyond > 0 else 1, 3)
    for wrapped in WRAPPED:
        found = await engine.infer(Item({"x": X, "at": np.array(wrapped)}, ("y",)))
        assert 1 <= found["y"].shape[1] <= STEPS
    assert not engine.failed.is_set()
    await engine.close()


@pytest.mark.attack("I09")
async def test_fewer_than_the_largest_so_many_are_refused_and_the_engine_lives_on():
    engine = OpenVinoEngine(safe(largest(steps=-1, count=5)))
    with pytest.raises(InvalidRequest) as caught:
        await engine.infer(Item({"x": X[:, :4]}, ("y",)))
    assert caught.value.reason == "inference.failed"
    assert (await engine.infer(Item({"x": X[:, :5]}, ("y",))))["y"].shape == (ROWS, 5, 3)
    await engine.close()


def test_the_largest_of_what_values_may_leave_empty():
    x = named((4,), np.uint8, "x")
    places = ops.non_zero(x, "i64")
    model = safe(model_of(ops.topk(places, ops.constant(np.int64(1)), 1, "max", "value").output(0), [x]))
    with pytest.raises(InvalidRequest) as caught:
        ShapeGuard(model, contract_of(model))
    assert caught.value.reason == "model.operation_unsafe"


def tiled(like):
    """`x` [n, 3] repeated as often as `like` [m] is long."""
    x, other = named((-1, 3), np.float32, "x"), named((-1,), np.float32, "other")
    repeats = ops.concat([like(ops.shape_of(other)), ops.constant(np.array([1]))], 0)
    return model_of(ops.tile(x, repeats).output(0), [x, other])


def test_repeats_from_shapes_give_the_same_bits():
    inputs = {"x": X[0], "other": np.zeros(3, np.float32)}
    found = evaluated(safe(tiled(lambda size: size)), inputs)
    assert found.tobytes() == evaluated(tiled(lambda size: size), inputs).tobytes() == np.tile(X[0], (3, 1)).tobytes()


@pytest.mark.attack("I09")
def test_repeats_from_shapes_are_bounded_by_what_they_come_to():
    model = safe(tiled(lambda size: ops.multiply(size, ops.constant(np.array([1 << 40])))))
    guard = ShapeGuard(model, contract_of(model))
    few = {"x": X[0], "other": np.zeros(0, np.float32)}
    guard.check(few)
    with pytest.raises(InvalidRequest) as caught:
        guard.check({"x": np.broadcast_to(X[0, :1], (1 << 8, 3)), "other": np.zeros(2, np.float32)})
    assert caught.value.reason == "inference.too_large"


@pytest.mark.attack("I09")
def test_fewer_repeats_than_none_are_none():
    model = safe(tiled(lambda size: ops.negative(size)))
    assert evaluated(model, {"x": X[0], "other": np.zeros(3, np.float32)}).shape == (0, 3)
