"""The OpenVINO engine: the bits of OpenVINO in process, and nobody else's."""

import asyncio
import gc
import weakref

import numpy as np
import openvino as ov
import pytest

from cloister.contract import TensorSpec
from cloister.errors import CloisterError, InvalidRequest, NotReady
from cloister.worker.batches import Item
from cloister.worker.engine import OpenVinoEngine
from cloister.worker.infer_requests import InferSlot
from cloister.worker.ports import contract_of
from cloister.worker.refusals import ModelRefused
from cloister.worker.tuning import Tuning
from fakes import clocks, networks
from fakes.refusals import because


def quick_engine(model):
    """As on an idle machine, where every evaluation is quick."""
    return OpenVinoEngine(model, tuning=Tuning(clock_s=clocks.quick()))


def in_process(model, config, inputs):
    compiled = ov.Core().compile_model(model, "CPU", config)
    found = compiled.create_infer_request().infer(inputs)
    return {port.get_any_name(): np.array(found[port]) for port in compiled.outputs}


def rows(count, seed=1):
    return {"x": np.random.default_rng(seed).standard_normal((count, networks.FEATURES)).astype(np.float32)}


def images(count, seed=1):
    return {"x": np.random.default_rng(seed).standard_normal((count, 32, 32, 32)).astype(np.float32)}


def now(engine, inputs, outputs):
    """One request, evaluated on the calling thread."""
    (outcome,) = engine.infer_now([Item(inputs, outputs)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def same(left, right):
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@pytest.fixture(scope="module")
def tiny():
    return quick_engine(networks.tiny())


@pytest.fixture
async def slow():
    engine = OpenVinoEngine(networks.slow(), parallel=4, tuning=Tuning(clock_s=clocks.slow()))
    yield engine
    await engine.close()


def test_contract(tiny):
    assert tiny.contract.inputs == (TensorSpec("x", "FP32", (-1, 30)),)
    assert tiny.contract.outputs == (TensorSpec("p", "FP32", (-1, 2)), TensorSpec("sum", "FP32", (-1,)))


def test_a_tiny_model_runs_inline_and_a_big_input_of_it_does_not(tiny):
    assert tiny.measured_s == pytest.approx(10e-6)
    assert tiny.quick(Item(rows(1), ()))
    assert not tiny.quick(Item(rows(100_000), ()))


@pytest.mark.parametrize("count", [1, 7, 64, 3, 0])
def test_inline_outputs_are_those_of_openvino(tiny, count):
    inputs = rows(count)
    expected = in_process(networks.tiny(), tiny.config, inputs)
    found = now(tiny, inputs, ("sum", "p"))
    assert list(found) == ["sum", "p"]
    assert all(same(found[name], expected[name]) for name in found)


def test_nan_and_infinity_pass_through(tiny):
    inputs = rows(3)
    inputs["x"][0, 0], inputs["x"][1, 0], inputs["x"][2, 0] = np.nan, np.inf, -np.inf
    expected = in_process(networks.tiny(), tiny.config, inputs)
    found = now(tiny, inputs, ("p", "sum"))
    assert all(same(found[name], expected[name]) for name in found)
    assert np.isnan(found["sum"][0])
    assert np.isinf(found["sum"][1:]).all()


def test_outputs_outlive_the_next_evaluation(tiny):
    first = now(tiny, rows(64, 1), ("p",))["p"]
    kept = first.copy()
    short = now(tiny, rows(1, 2), ("p",))["p"]
    assert same(first, kept)
    assert short.shape == (1, 2)


async def test_a_slow_model_uses_the_pool_and_gives_the_same_bits(slow):
    assert not slow.quick(Item(images(1), ()))
    expected = [in_process(networks.slow(), slow.config, images(1 + seed % 2, seed))["y"] for seed in range(6)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(slow.infer(Item(images(1 + seed % 2, seed), ("y",)))) for seed in range(6)]
    assert all(same(task.result()["y"], expected[seed]) for seed, task in enumerate(tasks))


async def test_the_pool_serves_a_tiny_model_too(tiny):
    found = await tiny.infer(Item(rows(5), ("p",)))
    assert same(found["p"], now(tiny, rows(5), ("p",))["p"])


async def test_cancelled_callers_cost_no_infer_request_and_mix_nothing_up(slow):
    expected = in_process(networks.slow(), slow.config, images(1, 9))["y"]
    async with asyncio.TaskGroup() as group:
        abandoned = [group.create_task(slow.infer(Item(images(1, seed), ("y",)))) for seed in range(8)]
        await asyncio.sleep(0)
        for task in abandoned:
            task.cancel()
        kept = [group.create_task(slow.infer(Item(images(1, 9), ("y",)))) for _ in range(8)]
    assert all(task.cancelled() for task in abandoned)
    assert all(same(task.result()["y"], expected) for task in kept)


@pytest.fixture
async def product():
    engine = OpenVinoEngine(networks.product(), parallel=2)
    yield engine
    await engine.close()


def matrices(rows, inner, other, columns, value=1.0):
    return {"a": np.full((rows, inner), value, np.float32), "b": np.full((other, columns), 1, np.float32)}


async def test_inputs_that_do_not_fit_together_fail_alone(product):
    good, bad = matrices(2, 3, 3, 2), matrices(2, 3, 2, 3)
    assert not product.quick(Item(bad, ()))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        refused = [group.create_task(reason_of(product.infer(Item(bad, ("c",))))) for _ in range(5)]
        served = [group.create_task(product.infer(Item(good, ("c",)))) for _ in range(5)]
    assert all(task.result() == "inference.failed" for task in refused)
    assert all(task.result()["c"].tolist() == [[3, 3], [3, 3]] for task in served)
    assert not product.failed.is_set()
    assert not product.quick(Item(bad, ()))


async def test_one_row_that_does_not_fit_is_no_exception(product):
    bad = Item(matrices(1, 3, 1, 2), ("c",))
    assert bad.rows == 1
    assert not product.quick(bad)
    assert await reason_of(product.infer(bad)) == "inference.failed"
    assert not product.failed.is_set()


async def test_after_hostile_shapes_everybody_gets_their_own_numbers(product):
    generator = np.random.default_rng(1)
    async with asyncio.timeout(30):
        for _ in range(300):
            rows, inner, columns, more = (int(size) for size in generator.integers(1, 5, 4))
            if generator.random() < 0.5:
                assert await reason_of(product.infer(Item(matrices(rows, inner, inner + more, columns), ("c",))))
            else:
                inputs = matrices(rows, inner, inner, columns, float(more))
                item = Item(inputs, ("c",))
                found = now(product, inputs, ("c",)) if product.quick(item) else await product.infer(item)
                assert np.array_equal(found["c"], inputs["a"] @ inputs["b"])


async def test_a_request_that_would_take_absurd_memory(product):
    vast = {"a": np.zeros((1 << 20, 1), np.float32), "b": np.zeros((1, 1 << 20), np.float32)}
    assert await reason_of(product.infer(Item(vast, ("c",)))) == "inference.too_large"
    assert not product.failed.is_set()


@pytest.mark.parametrize("threads", [0, 1])
async def test_an_evaluation_that_fails_ends_the_engine(threads):
    engine = OpenVinoEngine(networks.picker(), threads=threads, parallel=2)
    x = np.arange(4, dtype=np.float32)
    good, bad = {"x": x, "at": np.array([3])}, {"x": x, "at": np.array([4])}
    async with asyncio.timeout(10):
        assert (await engine.infer(Item(good, ("y",))))["y"].tolist() == [0, 1, 2, 9]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(reason_of(engine.infer(Item(bad, ("y",))))) for _ in range(3)]
            late = group.create_task(reason_of(engine.infer(Item(good, ("y",)))))
        assert engine.failed.is_set()
        assert {task.result() for task in tasks} <= {"inference.failed", "model.gone"}
        assert "inference.failed" in {task.result() for task in tasks}
        assert late.result() in (None, "model.gone")
        assert not engine.quick(Item(good, ()))
        assert await reason_of(engine.infer(Item(good, ("y",)))) == "model.gone"
        await engine.close()


def test_an_evaluation_that_fails_raises_on_one_thread_too():
    model, x = networks.picker(), np.arange(4, dtype=np.float32)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
    slot = InferSlot(compiled, contract_of(model))
    slot.fill({"x": x, "at": np.array([3])})
    slot.evaluate()
    slot.fill({"x": x, "at": np.array([4])})
    with pytest.raises(RuntimeError):
        slot.evaluate()


async def test_an_inline_evaluation_that_fails_ends_the_engine():
    engine = quick_engine(networks.picker())
    x = np.arange(4, dtype=np.float32)
    assert engine.quick(Item({"x": x, "at": np.array([3])}, ()))
    with pytest.raises(InvalidRequest, match="cannot be evaluated"):
        now(engine, {"x": x, "at": np.array([4])}, ("y",))
    assert engine.failed.is_set()
    assert not engine.quick(Item({"x": x, "at": np.array([3])}, ()))


async def reason_of(awaited):
    try:
        await awaited
    except CloisterError as error:
        return error.reason


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "bool"])
def test_every_element_type_goes_in_and_out(kind):
    dtype = np.dtype(kind)
    engine = quick_engine(networks.echo(dtype))
    x = (
        np.frombuffer(np.arange(6, dtype=np.uint8).tobytes() * dtype.itemsize, dtype).reshape(2, 3)
        if kind != "bool"
        else (np.array([[True, False, True], [False, False, True]]))
    )
    expected = in_process(networks.echo(dtype), engine.config, {"x": x})
    assert same(now(engine, {"x": x}, ("y",))["y"], expected["y"])
    assert engine.contract.outputs[0].datatype == engine.contract.inputs[0].datatype


def test_bfloat16_travels_as_bits():
    x = ov.opset13.parameter([-1], ov.Type.bf16, name="x")
    x.output(0).set_names({"x"})
    y = ov.opset13.concat([x], 0)
    y.output(0).set_names({"y"})
    engine = quick_engine(ov.Model([ov.opset13.result(y)], [x], "bits"))
    bits = np.array([0x3F80, 0xC000, 0x0000, 0x7F80], np.uint16)
    assert engine.contract.inputs[0].datatype == "BF16"
    assert now(engine, {"x": bits}, ("y",))["y"].tolist() == bits.tolist()


def test_an_element_type_without_a_word_in_the_protocol():
    x = ov.opset13.parameter([-1], ov.Type.string, name="x")
    with pytest.raises(ModelRefused, check=because("'x'")):
        OpenVinoEngine(ov.Model([ov.opset13.result(x)], [x], "text"))


def test_big_weights_are_not_measured():
    engine = OpenVinoEngine(networks.tiny(), weights_bytes=1 << 30)
    assert engine.measured_s == float("inf")
    assert not engine.quick(Item(rows(1), ()))


def test_an_input_that_is_a_single_number():
    x = ov.opset13.parameter([], np.float32, name="x")
    x.output(0).set_names({"x"})
    y = ov.opset13.add(x, x)
    y.output(0).set_names({"y"})
    engine = quick_engine(ov.Model([ov.opset13.result(y)], [x], "scalar"))
    found = now(engine, {"x": np.array(3, np.float32)}, ("y",))["y"]
    assert found.shape == ()
    assert found == 6


@pytest.mark.attack("I04")
async def test_what_is_closed_is_gone_from_memory_though_openvino_was_given_a_callback():
    """It holds the callback, and that the pool, where no collector sees it: each model that was unloaded stayed."""
    called = []
    engine = OpenVinoEngine(networks.tiny(), tuning=Tuning(clock_s=clocks.slow()), closed=lambda: called.append(1))
    await engine.infer(Item(rows(3), ("p",)))
    held = [weakref.ref(slot) for slot in engine._pool._idle]
    assert held
    await engine.close()
    gc.collect()
    assert [slot() for slot in held] == [None] * len(held)
    assert called == [1]
    with pytest.raises(NotReady):
        await engine.infer(Item(rows(3), ("p",)))
    assert not engine.quick(Item(rows(1), ("p",)))
