"""What may be asked of a model: positions stay inside its data, and sizes inside bounds (attacks I08, I09)."""

import asyncio

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cloister.errors import InvalidRequest
from cloister.worker import models
from cloister.worker.batches import Item
from cloister.worker.bounds import MAX_INDEXED
from cloister.worker.engine import OpenVinoEngine
from cloister.worker.ports import contract_of
from cloister.worker.safety import make_safe
from cloister.worker.shapes import ShapeGuard, sizes_fixed
from fakes import networks

GATHERING = ("Gather", "Gather 1D", "GatherElements", "GatherND")
SCATTERING = ("ScatterUpdate", "ScatterElementsUpdate", "ScatterNDUpdate")
FROM_THE_END = {"Gather", "Gather 1D", "GatherElements", "GatherND", "ScatterElementsUpdate", "ScatterNDUpdate"}


def safe(model):
    make_safe(model)
    return model


def evaluated(model, inputs):
    return np.array(ov.Core().compile_model(model, "CPU").create_infer_request().infer(inputs)["y"])


def at(model, *positions):
    port = model.input("at")
    column = np.array(positions, port.get_element_type().to_dtype())
    shape = port.get_shape()
    return np.broadcast_to(column.reshape([3] + [1] * (len(shape) - 1)), shape)


def data(kind):
    return (
        np.arange(100, 108, dtype=np.int32)
        if kind == "Gather 1D"
        else np.arange(100, 132, dtype=np.int32).reshape(8, 4)
    )


def reason_of(refused, *arguments):
    with pytest.raises(InvalidRequest) as caught:
        refused(*arguments)
    return caught.value.reason


@pytest.mark.parametrize("kind", [*GATHERING, *SCATTERING])
@pytest.mark.parametrize(("length", "index"), [(8, "i8"), (-1, "i4")])
def test_an_index_in_range_gives_the_same_bits(kind, length, index):
    positions = (0, 7, -8) if kind in FROM_THE_END else (0, 7, 3)
    inputs = {"x": data(kind), "at": at(networks.indexed(kind, np.dtype(index)), *positions)}
    expected = evaluated(networks.indexed(kind, np.dtype(index), length=length), inputs)
    found = evaluated(safe(networks.indexed(kind, np.dtype(index), length=length)), inputs)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", GATHERING)
@pytest.mark.parametrize("length", [8, -1])
def test_an_index_out_of_range_reads_nothing_else(kind, length):
    model = safe(networks.indexed(kind, np.dtype("i4"), length=length))
    request = ov.Core().compile_model(model, "CPU").create_infer_request()
    for beyond in (8, 20, 4096, -9, -4096, 2**30, 2**31 - 1, -(2**31)):
        found = request.infer({"x": data(kind), "at": at(model, beyond, beyond, beyond)})["y"]
        assert (found == data(kind)[-1 if beyond > 0 else 0]).all()


@pytest.mark.parametrize("kind", SCATTERING)
@pytest.mark.parametrize("length", [8, -1])
def test_an_index_out_of_range_writes_nothing_else(kind, length):
    model, x = safe(networks.indexed(kind, np.dtype("i8"), length=length)), data(kind)
    request = ov.Core().compile_model(model, "CPU").create_infer_request()
    for beyond in (8, 20, -9, -4096, 2**30):
        found = request.infer({"x": x, "at": at(model, beyond, beyond, beyond)})["y"]
        edge = 7 if beyond > 0 else 0
        assert (found[edge] == 7).all()
        assert np.array_equal(np.delete(found, edge, 0), np.delete(x, edge, 0))
    for wrapped in (2**40, -(2**40), 2**63 - 1):  # 32 bits of it are what the plugin sees
        found = request.infer({"x": x, "at": at(model, wrapped, wrapped, wrapped)})["y"]
        assert np.argwhere(found != x)[:, 0].tolist() in ([row] * 4 for row in range(8))


def test_an_index_of_one_byte_on_a_long_axis():
    model = safe(networks.indexed("Gather 1D", np.dtype("i1"), length=300))
    found = evaluated(model, {"x": np.arange(300, dtype=np.int32), "at": np.array([127, -128, 1], np.int8)})
    assert found.tolist() == [127, 172, 1]


def test_an_index_in_an_embedding_bag():
    table, offsets = ops.constant(np.eye(4, dtype=np.float32)), ops.constant(np.array([0, 1], np.int32))
    at = ops.parameter([2], np.int32, name="at")
    at.output(0).set_names({"at"})
    bags = ops.embedding_bag_offsets_sum(table, at, offsets)
    bags.output(0).set_names({"y"})
    found = evaluated(safe(ov.Model([ops.result(bags)], [at], "bags")), {"at": np.array([2, 100], np.int32)})
    assert np.array_equal(found, np.eye(4, dtype=np.float32)[[2, 3]])


def test_a_constant_in_range_stays_as_it_is_and_another_does_not():
    def kinds(position):
        x = ops.parameter([8], np.float32)
        model = ov.Model([ops.result(ops.gather_nd(x, ops.constant(np.array([position]))))], [x], "constant")
        make_safe(model)
        return {node.get_type_name() for node in model.get_ops()}

    assert "Minimum" not in kinds(7)
    assert "Minimum" not in kinds(-8)
    assert "Minimum" in kinds(8)
    assert "Minimum" in kinds(-9)


def test_through_the_whole_load_path(tmp_path):
    model, _ = models.read(networks.ir(networks.indexed("GatherND", np.dtype("i8")), tmp_path))
    assert (
        evaluated(model, {"x": data("GatherND"), "at": at(model, 20, 500, -100)}) == data("GatherND")[[7, 7, 0]]
    ).all()


def test_onnx_through_the_whole_load_path():
    model, _ = models.read({"model.onnx": memoryview(networks.onnx_gather_nd())})
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = evaluated(model, {"x": x, "at": np.array([[100], [-100]])})
    assert np.array_equal(found, x[[1, 0]])


def test_inside_a_branch(tmp_path):
    model, _ = models.read(networks.ir(networks.branching(), tmp_path))
    x, beyond = np.arange(8, dtype=np.int32), np.array([20, -100, 2**30], np.int32)
    assert evaluated(model, {"x": x, "at": beyond, "which": np.array(True)}).tolist() == [7, 0, 7]


def with_input(build, shape=(8, 4), size=1):
    x = ops.parameter(list(shape), np.float32, name="x")
    told = ops.parameter([size], np.int64, name="told")
    return ov.Model([ops.result(build(x, told))], [x, told], "told")


ONE, EIGHT = ops.constant(np.array([1])), ops.constant(np.array([8]))
UNSAFE = {
    "Roll": lambda x, told: ops.roll(x, ONE, told),
    "Slice": lambda x, told: ops.slice(x, ONE, EIGHT, ONE, told),
    "Pad": lambda x, told: ops.pad(x, ops.concat([told, ONE], 0), ops.concat([ONE, told], 0), "constant"),
    "PRelu": lambda x, told: ops.prelu(x, ops.convert_like(told, x)),
    "Range": lambda x, told: ops.range(ops.constant(0), ops.constant(8), ops.squeeze(told, ops.constant([0])), "i64"),
    "SliceScatter": lambda x, told: ops_15.slice_scatter(x, ops.slice(x, ONE, EIGHT, ONE), told, EIGHT, ONE),
    "DFT": lambda x, told: ops.dft(ops.reshape(x, ops.constant([4, 4, 2]), special_zero=False), told),
    "DeformablePSROIPooling": lambda x, told: ops.deformable_psroi_pooling(
        ops.reshape(x, ops.constant([1, 4, 2, 4]), special_zero=False),
        ops.slice(
            ops.reshape(x, ops.constant([-1, 8]), special_zero=False), ops.constant([0]), ops.constant([5]), ONE, ONE
        ),
        1,
        1.0,
        2,
    ),
}
ops_15 = ov.opset15


@pytest.mark.parametrize("kind", UNSAFE)
def test_an_operation_that_reaches_where_a_request_says_is_refused(kind):
    assert reason_of(make_safe, with_input(UNSAFE[kind])) == "model.operation_unsafe"


def test_a_loop_that_a_request_counts_is_refused():
    assert reason_of(make_safe, networks.rounds()) == "model.operation_unsafe"


def test_positions_from_shapes_are_not_constants():
    def build(x, told):
        return ops.roll(x, ONE, ops.slice(ops.shape_of(x), ops.constant([0]), ONE, ONE))

    assert reason_of(make_safe, with_input(build, (-1, 4))) == "model.operation_unsafe"
    make_safe(with_input(build, (1, 4)))  # there the shape is a constant


SIZES = {
    "Broadcast": lambda x, told: ops.broadcast(ops.constant(np.float32(1)), told),
    "Reshape": lambda x, told: ops.reshape(x, told, special_zero=False),
    "Slice": lambda x, told: ops.slice(x, ops.constant([0]), told, ONE, ops.constant([0])),
    "Tile": lambda x, told: ops.tile(x, ops.concat([told, ONE], 0)),
}


@pytest.mark.parametrize("kind", SIZES)
def test_a_size_from_a_request_is_refused(kind):
    assert reason_of(make_safe, with_input(SIZES[kind])) == "model.shape_unbounded"


def test_a_size_from_shapes_is_served():
    def build(x, told):
        return ops.broadcast(ops.convert_like(told, x), ops.shape_of(x))

    model = with_input(build, (-1, 4))
    make_safe(model)
    guard = ShapeGuard(model, contract_of(model))
    inputs = {"x": np.zeros((5, 4), np.float32), "told": np.zeros(1, np.int64)}
    guard.check(inputs)
    assert guard.fixed(inputs)


def test_few_bytes_that_ask_for_any_memory_are_refused_at_load(tmp_path):
    assert reason_of(models.read, networks.ir(networks.bomb(), tmp_path)) == "model.shape_unbounded"
    assert reason_of(OpenVinoEngine, networks.bomb()) == "model.shape_unbounded"


async def test_a_size_that_depends_on_values_within_bounds_is_served_but_never_on_the_loop():
    engine = OpenVinoEngine(networks.counted())
    x = {"x": np.array([0, 1, 0, 1], np.uint8)}
    assert not engine.quick(Item(x, ()))
    async with asyncio.timeout(10):
        assert (await engine.infer(Item(x, ("y",))))["y"].tolist() == [[1, 3]]
        await engine.close()


async def test_a_bound_that_is_too_large():
    engine = OpenVinoEngine(networks.counted((-1,)))
    vast = {"x": np.broadcast_to(np.zeros(1, np.uint8), (1 << 29,))}
    with pytest.raises(InvalidRequest) as caught:
        await engine.infer(Item(vast, ("y",)))
    assert caught.value.reason == "inference.too_large"
    await engine.close()


async def test_a_branch_that_values_choose_is_never_on_the_loop():
    engine = OpenVinoEngine(safe(networks.branching()))
    inputs = {"x": np.arange(8, dtype=np.int32), "at": np.array([1, 2, 3], np.int32), "which": np.array(True)}
    assert not engine.quick(Item(inputs, ()))
    async with asyncio.timeout(10):
        assert (await engine.infer(Item(inputs, ("y",))))["y"].tolist() == [1, 2, 3]
        await engine.close()


def test_nothing_is_taken_from_an_empty_input():
    model = safe(networks.indexed("Gather 1D", np.dtype("i4"), length=-1))
    guard = ShapeGuard(model, contract_of(model))
    empty = {"x": np.zeros(0, np.int32), "at": np.zeros(3, np.int32)}
    assert reason_of(guard.check, empty) == "inference.failed"
    assert not guard.known(empty)


def test_nothing_is_taken_from_what_values_may_leave_empty():
    x = ops.parameter([4], np.uint8, name="x")
    places = ops.squeeze(ops.non_zero(x, "i64"), ops.constant([0]))
    first = ops.gather(places, ops.constant(np.array([0])), ops.constant(0))
    model = safe(ov.Model([ops.result(first)], [x], "first"))
    assert reason_of(ShapeGuard, model, contract_of(model)) == "model.operation_unsafe"


def test_an_axis_longer_than_bounds_are_exact():
    model = safe(networks.indexed("Gather 1D", np.dtype("i4"), length=-1))
    guard = ShapeGuard(model, contract_of(model))
    long = {"x": np.broadcast_to(np.int32(0), (MAX_INDEXED + 1,)), "at": np.zeros(3, np.int32)}
    assert reason_of(guard.check, long) == "model.operation_unsafe"


def test_the_last_position_of_the_longest_axis():
    model = safe(networks.indexed("Gather 1D", np.dtype("i4"), length=-1))
    x = np.arange(MAX_INDEXED, dtype=np.int32)
    found = evaluated(model, {"x": x, "at": np.array([MAX_INDEXED, MAX_INDEXED - 1, MAX_INDEXED - 2], np.int32)})
    assert found.tolist() == [MAX_INDEXED - 1, MAX_INDEXED - 1, MAX_INDEXED - 2]


def scattering(index_shape, constant=False):
    """Writes `u` into `x` along axis 1, where `at` says."""
    x = ops.parameter([4, 4], np.float32, name="x")
    u = ops.parameter(list(index_shape), np.float32, name="u")
    if constant:
        index, inputs = ops.constant(np.zeros(index_shape, np.int32)), [x, u]
    else:
        index = ops.parameter(list(index_shape), np.int32, name="at")
        inputs = [x, u, index]
    y = ops.scatter_elements_update(x, index, u, ops.constant(1))
    return ov.Model([ops.result(y)], inputs, "scattering")


@pytest.mark.parametrize("constant", [False, True])
def test_an_index_that_is_longer_than_its_data_elsewhere_is_refused(constant):
    assert reason_of(sizes_fixed, scattering((5, 2), constant=constant)) == "model.operation_unsafe"


def test_an_index_that_fits_its_data_is_not():
    assert sizes_fixed(scattering((4, 12)))
