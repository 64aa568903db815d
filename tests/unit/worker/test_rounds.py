"""Loops as TensorFlow has them: served where their graph shows an end, refused where it does not (attacks I09)."""

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cloister.errors import InvalidRequest
from cloister.worker.ports import contract_of
from cloister.worker.safety import make_safe
from cloister.worker.shapes import ShapeGuard


def counting(*, end=6, start=0, step=1, ahead=1, both=True, compare=ops.less, grow=False):
    """`x` [n, 2] doubled until a counter is at its end; `end` may follow from `x`. Without a number of rounds."""
    x = ops.parameter([-1, 2], np.float32, name="x")
    x.output(0).set_names({"x"})
    inner, counter = ops.parameter([-1, 2], np.float32), ops.parameter([], np.int32)
    limit = ops.parameter([], np.int32)
    step_by = step if isinstance(step, ov.Node) else ops.constant(np.int32(step))
    further = ops.add(counter, step_by)
    holds = compare(ops.add(counter, ops.constant(np.int32(ahead))), limit)
    other = ops.less(ops.reduce_sum(inner, ops.constant([0, 1]), keep_dims=False), ops.constant(np.float32(1e30)))
    condition = ops.logical_and(holds, other) if both else other
    value = ops.concat([inner, inner], 0) if grow else ops.add(inner, inner)
    results = [ops.result(each) for each in (condition, value, further)]
    loop = ops.loop(ops.constant(np.int64(-1)), ops.constant(True))
    loop.set_function(ov.Model(results, [inner, counter, limit]))
    loop.set_special_body_ports([-1, 0])
    loop.set_merged_input(inner, x.output(0), results[1].output(0))
    loop.set_merged_input(counter, ops.constant(np.int32(start)).output(0), results[2].output(0))
    end_node = end(x) if callable(end) else ops.constant(np.int32(end))
    loop.set_invariant_input(limit, end_node.output(0))
    y = loop.get_iter_value(results[1].output(0), -1)
    y.set_names({"y"})
    extra = [end_node] if end_node.get_type_name() == "Parameter" else []
    return ov.Model([ops.result(y)], [x, *extra], "counting")


def rows(x):
    """How many rows there are, as TensorFlow picks it out of a shape."""
    size = ops.gather(ops.shape_of(x, "i32"), ops.constant([0]), ops.constant(0))
    return ops.squeeze(size, ops.constant([0]))


def rounds_of(model):
    (loop,) = (node for node in model.get_ops() if node.get_type_name() == "Loop")
    return int(loop.input_value(0).get_node().data.item())


def evaluated(model):
    return evaluated_on(model, np.arange(1, 5, dtype=np.float32).reshape(2, 2))


@pytest.mark.parametrize(
    ("given", "rounds"),
    [
        ({}, 6),
        ({"end": 0}, 1),
        ({"end": 7, "step": 3}, 3),
        ({"end": 8, "step": 3, "start": -1}, 4),
        ({"ahead": 0}, 7),
        ({"start": 100}, 1),
    ],
)
def test_a_loop_that_counts_to_a_constant_has_so_many_rounds_and_the_same_bits(given, rounds):
    bounded = counting(**given)
    make_safe(bounded)
    assert rounds_of(bounded) == rounds
    assert evaluated(bounded).tobytes() == evaluated(counting(**given)).tobytes()
    x = np.arange(1, 5, dtype=np.float32).reshape(2, 2)
    assert np.array_equal(evaluated(bounded), x * 2.0**rounds)


def evaluated_on(model, x):
    return np.array(ov.Core().compile_model(model, "CPU").create_infer_request().infer({"x": x})["y"])


@pytest.mark.parametrize(("start", "ahead"), [(0, 1), (0, 0), (3, 1)])
def test_a_loop_that_counts_to_a_size_has_so_many_rounds_and_the_same_bits(start, ahead):
    bounded = counting(end=rows, start=start, ahead=ahead)
    make_safe(bounded)
    ShapeGuard(bounded.clone(), contract_of(bounded))
    for count in (1, 2, 5):
        x = np.arange(1, 2 * count + 1, dtype=np.float32).reshape(count, 2)
        found = evaluated_on(bounded, x)
        assert found.tobytes() == evaluated_on(counting(end=rows, start=start, ahead=ahead), x).tobytes()
        assert np.array_equal(found, x * 2.0 ** max(1, count - start - ahead + 1))


@pytest.mark.attack("I09")
@pytest.mark.parametrize(
    "given",
    [
        {"end": lambda _: ops.parameter([], np.int32, name="end")},
        {"end": lambda x: ops.reduce_max(ops.convert(x, "i32"), [0, 1])},
        {"end": lambda x: ops.multiply(rows(x), ops.constant(np.int32(1 << 20)))},
        {"end": rows, "step": 2},
        {"both": False},
        {"step": 0},
        {"step": -1},
        {"end": (1 << 20) + 2},
        {"end": (1 << 31) - 1},
        {"compare": ops.not_equal},
        {"compare": ops.greater},
    ],
)
def test_a_loop_that_shows_no_end_is_refused(given):
    with pytest.raises(InvalidRequest, match="without a number of rounds") as caught:
        make_safe(counting(**given))
    assert caught.value.reason == "model.operation_unsafe"


@pytest.mark.attack("I09")
def test_a_loop_whose_tensors_grow_is_refused():
    model = counting(grow=True)
    make_safe(model)
    with pytest.raises(InvalidRequest) as caught:
        ShapeGuard(model, contract_of(model))
    assert caught.value.reason == "model.shape_unbounded"
