"""Preprocessing compiled into a model does what a client's NumPy did, and workers serve the result."""

import itertools

import numpy as np
import openvino as ov
import pytest

from cloister.errors import InvalidRequest
from cloister.oip.tensors import encode_request
from cloister.prepare.files import write_ir
from cloister.prepare.preprocessing import compile_in, steps
from cloister.worker import models
from cloister.worker.batches import Item
from cloister.worker.engine import OpenVinoEngine
from fakes import networks

MEAN, SCALE = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)
SIDE = 8


def images(count=2, height=SIDE, width=SIDE):
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


def original(x):
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    return ov.Core().compile_model(networks.pictures(SIDE), "CPU", config).create_infer_request().infer({"image": x})


async def served(tmp_path, inputs, **wanted):
    """What a worker answers, on the model as it reads it from files; and the words for the manifest."""
    model = networks.pictures(SIDE)
    changed, words = compile_in(model, steps(model, **wanted))
    files = write_ir(changed, tmp_path)
    read, size = models.read({name: memoryview(path.read_bytes()) for name, path in files.items()})
    engine = OpenVinoEngine(read, weights_bytes=size)
    try:
        engine.contract.check_request(encode_request("network", inputs))
        return await engine.infer(Item(inputs, ("scores", "seen"))), words
    finally:
        await engine.close()


async def test_bytes_as_they_are_give_exactly_what_the_client_would_have_sent(tmp_path):
    raw = images()
    found, words = await served(tmp_path, {"image": raw}, from_u8=["image"], layout=["NHWC:NCHW"])
    client = np.ascontiguousarray(raw.astype(np.float32).transpose(0, 3, 1, 2))
    assert found["seen"].tobytes() == client.tobytes()
    assert found["scores"].tobytes() == original(client)["scores"].tobytes()
    assert words == {"image": "from u8 NHWC [?,8,8,3]; to f32; to NCHW"}


async def test_mean_and_scale_by_channel(tmp_path):
    raw = images()
    found, words = await served(
        tmp_path,
        {"image": raw},
        from_u8=["image"],
        mean=["image=123.675,116.28,103.53"],
        scale=["58.395,57.12,57.375"],
        layout=["image=NHWC->NCHW"],
    )
    client = ((raw.astype(np.float32) - MEAN) / SCALE).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found["seen"], client, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["scores"], original(client)["scores"], rtol=1e-5, atol=1e-5)
    assert words == {
        "image": "from u8 NHWC [?,8,8,3]; to f32; mean 123.675,116.28,103.53; scale 58.395,57.12,57.375; to NCHW"
    }


@pytest.mark.parametrize(("resize", "height", "width"), [("16x12", 16, 12), ("?x?", 5, 20), ("?x?:8x8", 31, 9)])
async def test_resizing_is_bilinear_between_pixel_centres(tmp_path, resize, height, width):
    raw = images(2, height, width)
    found, words = await served(
        tmp_path, {"image": raw}, from_u8=["image"], resize=[resize], scale=["255"], layout=["NHWC:NCHW"]
    )
    client = (bilinear(raw.astype(np.float32)) / 255).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found["seen"], client, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["scores"], original(client)["scores"], rtol=1e-4, atol=1e-4)
    assert "resize linear to 8x8" in words["image"]


def bilinear(image):
    """[n, h, w, c] to SIDE x SIDE, a pixel at a time."""
    _, height, width, _ = image.shape
    made = np.empty((len(image), SIDE, SIDE, 3), np.float32)
    for y, x in itertools.product(range(SIDE), repeat=2):
        v = np.clip((y + 0.5) * height / SIDE - 0.5, 0, height - 1)
        u = np.clip((x + 0.5) * width / SIDE - 0.5, 0, width - 1)
        top, left = int(v), int(u)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        above = image[:, top, left] * (1 - u + left) + image[:, top, right] * (u - left)
        below = image[:, bottom, left] * (1 - u + left) + image[:, bottom, right] * (u - left)
        made[:, y, x] = above * (1 - v + top) + below * (v - top)
    return made


async def test_a_client_that_sends_what_it_used_to_is_refused_and_told_why(tmp_path):
    with pytest.raises(InvalidRequest, match="image"):
        await served(tmp_path, {"image": images().astype(np.float32)}, from_u8=["image"], layout=["NHWC:NCHW"])


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"from_u8": ["picture"]}, "no input 'picture': it takes image"),
        ({"mean": ["picture=1"]}, "no input 'picture'"),
        ({"mean": ["one"]}, "is no mean"),
        ({"mean": ["1,,2"]}, "is no mean"),
        ({"scale": ["0"]}, "divides by nothing"),
        ({"scale": ["nan"]}, "is no scale"),
        ({"resize": ["8"]}, "no size to resize from"),
        ({"resize": ["?x8"]}, "no size to resize from"),
        ({"resize": ["0x8"]}, "no size to resize from"),
        ({"layout": ["NHWC:NCH"]}, "is no layout"),
        ({"layout": ["NHWC:NHHC"]}, "is no layout"),
        ({"layout": ["channels last"]}, "is no layout"),
    ],
)
def test_what_is_malformed_is_named(wanted, says):
    with pytest.raises(InvalidRequest, match=says) as caught:
        steps(networks.pictures(SIDE), **wanted)
    assert caught.value.reason == "preprocessing.malformed"


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"resize": ["?x?"]}, "say which axes 'image' has"),
        ({"mean": ["1,2,3"]}, "say which axes 'image' has"),
        ({"mean": ["1,2"], "layout": ["NHWC:NCHW"]}, "has not 2 channels"),
        ({"scale": ["1,2,3"], "layout": ["NHWC:NHWC"]}, "has not 3 channels"),
        ({"layout": ["HWC:CHW"]}, "which is not CHW"),
    ],
)
def test_what_does_not_fit_the_model_is_named(wanted, says):
    model = networks.pictures(SIDE)
    with pytest.raises(InvalidRequest, match=says) as caught:
        compile_in(model, steps(model, **wanted))
    assert caught.value.reason == "preprocessing.unfit"


def test_a_model_of_any_size_must_be_told_which():
    model = networks.pictures(-1)
    with pytest.raises(InvalidRequest, match="say which to resize to"):
        compile_in(model, steps(model, resize=["?x?"], layout=["NHWC:NCHW"]))
