"""Places between pixels that a request says: near the data, and the same bits for those that are (attacks I08, I09)."""

import itertools

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as ops

from cloister.errors import InvalidRequest
from cloister.worker.batches import Item
from cloister.worker.engine import OpenVinoEngine
from cloister.worker.ports import contract_of
from cloister.worker.safety import make_safe
from cloister.worker.sampling import FARTHEST
from cloister.worker.shapes import ShapeGuard

RNG = np.random.default_rng(5)
X = (1000 + RNG.standard_normal((2, 3, 8, 6))).astype(np.float32)
MODES = [("bilinear", "zeros"), ("nearest", "reflection"), ("bicubic", "border")]
REGIONS = [("avg", 2, "asymmetric"), ("max", 0, "asymmetric"), ("avg", 0, "half_pixel"), ("max", 2, "half_pixel")]
HOSTILE = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e12, 3e9, -(2.0**31))


def named(shape, kind, name):
    parameter = ops.parameter(list(shape), kind, name=name)
    parameter.output(0).set_names({name})
    return parameter


def model_of(output, parameters):
    output.set_names({"y"})
    return ov.Model([ops.result(output)], parameters, "sampled")


def grid(mode, padding, *, size=-1):
    """`x` [2, 3, size, size] and `at` [2, 4, 5, 2] in."""
    x, at = named((2, 3, size, size), np.float32, "x"), named((2, 4, 5, 2), np.float32, "at")
    how = {"mode": mode, "padding_mode": padding, "align_corners": False}
    return model_of(ops.grid_sample(x, at, how).output(0), [x, at])


def regions(mode, ratio, aligned, *, scale=0.5):
    """`x` [n, 3, h, w], `at` [r, 4] and `which` [r] in."""
    x, at = named((-1, 3, -1, -1), np.float32, "x"), named((-1, 4), np.float32, "at")
    which = named((-1,), np.int64, "which")
    y = ops.roi_align(x, at, which, 2, 2, ratio, scale, mode, aligned)
    return model_of(y.output(0), [x, at, which])


def safe(model):
    make_safe(model)
    return model


def request_of(model):
    return ov.Core().compile_model(model, "CPU").create_infer_request()


@pytest.mark.parametrize(("mode", "padding"), MODES)
def test_places_near_the_data_give_the_same_bits(mode, padding):
    near = {"x": X, "at": RNG.uniform(-5, 5, (2, 4, 5, 2)).astype(np.float32)}
    expected = np.array(request_of(grid(mode, padding)).infer(near)["y"])
    assert np.array(request_of(safe(grid(mode, padding))).infer(near)["y"]).tobytes() == expected.tobytes()


@pytest.mark.attack("I08")
@pytest.mark.parametrize(("mode", "padding"), MODES)
def test_places_far_away_are_taken_for_the_farthest_and_no_numbers_for_zero(mode, padding):
    request = request_of(safe(grid(mode, padding)))

    def answer(place):
        return np.array(request.infer({"x": X, "at": np.full((2, 4, 5, 2), place, np.float32)})["y"])

    farthest = {True: answer(FARTHEST), False: answer(-FARTHEST)}
    for place in HOSTILE:
        expected = answer(0) if np.isnan(place) else farthest[place > 0]
        assert answer(place).tobytes() == expected.tobytes()
    assert np.isfinite(farthest[True]).all()


@pytest.mark.parametrize(("mode", "ratio", "aligned"), REGIONS)
def test_regions_near_the_data_give_the_same_bits(mode, ratio, aligned):
    at = np.array([[0, 0, 8, 8], [-4, -3, 20, 14], [2.5, 1, 3, 9]], np.float32)
    inputs = {"x": X, "at": at, "which": np.array([0, 1, 1])}
    expected = np.array(request_of(regions(mode, ratio, aligned)).infer(inputs)["y"])
    assert np.array(request_of(safe(regions(mode, ratio, aligned))).infer(inputs)["y"]).tobytes() == expected.tobytes()


@pytest.mark.attack("I09")
@pytest.mark.parametrize(("mode", "ratio", "aligned"), REGIONS)
async def test_regions_of_any_size_are_done_with_and_the_engine_lives_on(mode, ratio, aligned):
    engine = OpenVinoEngine(safe(regions(mode, ratio, aligned)))
    for first, last in itertools.product(HOSTILE, HOSTILE):
        at = np.array([[first, first, last, last], [0, 0, last, last], [first, 0, 3, last]], np.float32)
        item = Item({"x": X, "at": at, "which": np.array([0, 1, 0])}, ("y",))
        assert (await engine.infer(item))["y"].shape == (3, 3, 2, 2)
    assert not engine.failed.is_set()
    await engine.close()


@pytest.mark.attack("I08")
def test_a_region_of_an_image_that_is_not_there_is_of_the_nearest():
    request = request_of(safe(regions("avg", 2, "asymmetric")))
    at = np.array([[0, 0, 8, 8]], np.float32)

    def answer(which):
        return np.array(request.infer({"x": X, "at": at, "which": np.array([which])})["y"]).tobytes()

    for beyond in (2, 20, 10**6, 2**31 - 1):
        assert answer(beyond) == answer(1)
    for before in (-1, -(10**6), -(2**31)):
        assert answer(before) == answer(0)


def test_nothing_is_sampled_from_an_empty_image():
    for model in (safe(grid("nearest", "border")), safe(regions("avg", 2, "asymmetric"))):
        guard = ShapeGuard(model, contract_of(model))
        inputs = {
            "x": np.zeros((2, 3, 0, 4), np.float32),
            "at": np.zeros((2, 4, 5, 2) if len(model.inputs) == 2 else (1, 4), np.float32),
            "which": np.zeros(1, np.int64),
        }
        with pytest.raises(InvalidRequest) as caught:
            guard.check(inputs)
        assert caught.value.reason == "inference.failed"


def test_a_scale_that_makes_any_region_endless_is_refused():
    with pytest.raises(InvalidRequest) as caught:
        make_safe(regions("avg", 0, "asymmetric", scale=0.0))
    assert caught.value.reason == "model.operation_unsafe"
