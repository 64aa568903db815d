"""Loops as TensorFlow has them: served where their graph shows an end, refused where it does not (attacks I09)."""

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
    with pytest.raises(ModelRefused, check=because("without a number of rounds")) as caught:
        make_safe(counting(**given))
    assert caught.value.reason == "model.operation_unsafe"


@pytest.mark.attack("I09")
def test_a_loop_whose_tensors_grow_is_refused():
    model = counting(grow=True)
    make_safe(model)
    with pytest.raises(InvalidRequest) as caught:
        ShapeGuard(model, contract_of(model))
    assert caught.value.reason == "model.shape_unbounded"


def over_rows(rounds, *, slices=True):
    """`x` [n, 2] in, the sum `y` [1, 2] of its first rows out: so many as `rounds` says, of x."""
    x = ops.parameter([-1, 2], np.float32, name="x")
    x.output(0).set_names({"x"})
    row, total = ops.parameter([-1, 2], np.float32), ops.parameter([1, 2], np.float32)
    first = row if slices else ops.gather(row, ops.constant([0]), ops.constant(0))
    results = [ops.result(ops.add(first, total)), ops.result(ops.constant(True))]
    loop = ops.loop(rounds(x), ops.constant(True))
    loop.set_function(ov.Model(results, [row, total]))
    loop.set_special_body_ports([-1, 1])
    if slices:
        loop.set_sliced_input(row, x.output(0), 0, 1, 1, -1, 0)
    else:
        loop.set_invariant_input(row, x.output(0))
    loop.set_merged_input(total, ops.constant(np.zeros((1, 2), np.float32)).output(0), results[0].output(0))
    y = loop.get_iter_value(results[0].output(0), -1)
    y.set_names({"y"})
    return ov.Model([ops.result(y)], [x], "over rows")


@pytest.mark.attack("I09")
async def test_fewer_rows_than_rounds_are_refused_and_the_engine_lives_on():
    model = over_rows(lambda _: ops.constant(np.int64(3)))
    make_safe(model)
    engine = OpenVinoEngine(model)
    with pytest.raises(InvalidRequest) as caught:
        await engine.infer(Item({"x": np.ones((2, 2), np.float32)}, ("y",)))
    assert caught.value.reason == "inference.failed"
    for count in (3, 4):
        found = await engine.infer(Item({"x": np.ones((count, 2), np.float32)}, ("y",)))
        assert found["y"].tolist() == [[3, 3]]
    await engine.close()


def pairs():
    """`x` [n, 2] and `z` [n, 2] in, the sum `y` [1, 2] of their rows out."""
    x, z = (ops.parameter([-1, 2], np.float32, name=name) for name in "xz")
    row, other, total = (ops.parameter([1, 2], np.float32) for _ in range(3))
    added = ops.result(ops.add(ops.add(row, other), total))
    iterator = ops.tensor_iterator()
    iterator.set_body(ov.Model([added], [row, other, total]))
    for port, inner in ((x, row), (z, other)):
        port.output(0).set_names({port.get_friendly_name()})
        iterator.set_sliced_input(inner, port.output(0), 0, 1, 1, -1, 0)
    iterator.set_merged_input(total, ops.constant(np.zeros((1, 2), np.float32)).output(0), added.output(0))
    y = iterator.get_iter_value(added.output(0), -1)
    y.set_names({"y"})
    return ov.Model([ops.result(y)], [x, z], "pairs")


@pytest.mark.attack("I09")
async def test_pairs_that_are_none_are_refused_and_the_engine_lives_on():
    model = pairs()
    make_safe(model)
    engine = OpenVinoEngine(model)
    for first, second in ((3, 5), (5, 3)):
        item = Item({"x": np.ones((first, 2), np.float32), "z": np.ones((second, 2), np.float32)}, ("y",))
        with pytest.raises(InvalidRequest) as caught:
            await engine.infer(item)
        assert caught.value.reason == "inference.failed"
    both = Item({name: np.ones((3, 2), np.float32) for name in "xz"}, ("y",))
    assert (await engine.infer(both))["y"].tolist() == [[6, 6]]
    assert not engine.failed.is_set()
    await engine.close()


def test_a_loop_may_be_told_a_size_unless_it_takes_slices_which_may_be_of_another():
    def as_many_as_rows(x):
        return ops.convert(rows(x), "i64")

    model = over_rows(as_many_as_rows, slices=False)
    make_safe(model)
    assert evaluated_on(model, np.ones((5, 2), np.float32)).tolist() == [[5, 5]]
    with pytest.raises(ModelRefused, check=because("without a number of rounds")):
        make_safe(over_rows(as_many_as_rows))
