"""A trained model in int8: what the report says is so, and workers serve it."""

import numpy as np
import openvino as ov
import pytest
from deploy.demo import train
from openvino import opset13 as ops

from cloister.errors import InvalidRequest
from cloister.prepare import quantization
from cloister.prepare.agreement import agreement
from cloister.prepare.files import write_ir
from cloister.prepare.samples import Samples
from cloister.worker import models
from cloister.worker.engine import OpenVinoEngine
from fakes import networks


def evaluated(model, pixels):
    return ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(pixels)[0]


@pytest.fixture(scope="module")
def made(trained):
    told = []
    samples = Samples({"pixels": trained.pixels}, 1, trained.labels)
    found = quantization.quantize(trained.model, samples, most=100, progress=lambda *step: told.append(step))
    return found, told, samples.split(quantization.HELD_OUT)[1]


def test_the_report_is_true(made, trained):
    found, _, judged = made
    before, after = (evaluated(model, judged.arrays["pixels"]) for model in (trained.model, found.model))
    scores = found.agreement.outputs["scores"]
    assert scores.by_class
    assert scores.share == (before.argmax(1) == after.argmax(1)).mean() > quantization.MIN_AGREEMENT
    assert scores.largest == pytest.approx(np.abs(before - after).max(), abs=1e-5)
    assert scores.mean == pytest.approx(np.abs(before - after).mean(), abs=1e-6)
    assert scores.accuracy == pytest.approx([(each.argmax(1) == judged.labels).mean() for each in (before, after)])
    assert found.agreement.examples == len(judged)
    assert scores.largest > 0
    assert found.size_bytes[0] > 0 < found.size_bytes[1]


def test_progress_is_told_by_stage(made):
    found, told, judged = made
    assert found.calibrated_on == 100
    assert ("calibrating", 100, 100) in told
    assert told[-1] == ("comparing", len(judged), len(judged))


async def test_workers_serve_it_and_requests_may_share_evaluations(made, tmp_path):
    files = write_ir(made[0].model, tmp_path)
    read, weights_bytes = models.read({name: memoryview(path.read_bytes()) for name, path in files.items()})
    kinds = {node.get_type_name() for node in read.get_ops()}
    assert "FakeQuantize" in kinds
    assert any(node.get_element_type() == ov.Type.i8 for node in read.get_ops() if node.get_type_name() == "Constant")
    engine = OpenVinoEngine(read, weights_bytes=weights_bytes)
    assert engine.properties["precision"] == "f32"
    await engine.close()


def test_a_model_that_int8_ruins_is_seen_to_be_ruined():
    """The demo's takes measurements between 0.001 and 4000 in one tensor, which 256 steps do not tell apart."""
    records, _ = train.split()
    model = train.build(train.train(records))
    samples = Samples({"measurements": records.measurements}, 1, records.labels)
    found = quantization.quantize(model, samples).agreement
    (output,) = found.outputs.values()
    assert not output.by_class
    assert found.share < 0.9
    assert output.accuracy is not None
    assert output.accuracy[0] - output.accuracy[1] > 0.05


def test_a_model_agrees_with_itself(trained):
    found = agreement(trained.model, trained.model, Samples({"pixels": trained.pixels[:9]}, 1), lambda done: None)
    assert found.share == 1
    assert (found.outputs["scores"].largest, found.outputs["scores"].accuracy) == (0, None)


def test_numbers_are_compared_as_numbers_where_their_owner_says_so(trained):
    samples = Samples({"pixels": trained.pixels[:50]}, 1)
    other = trained.model.clone()
    found = agreement(trained.model, other, samples, lambda done: None, numbers=["scores"])
    assert not found.outputs["scores"].by_class
    assert agreement(trained.model, other, samples, lambda done: None).outputs["scores"].by_class


@pytest.mark.parametrize(
    ("models_of", "says"),
    [
        (lambda: (networks.counted(), networks.counted()), "another size for one example"),
        (lambda: (networks.echo(np.float32), logarithm()), "no numbers"),
    ],
)
def test_what_cannot_be_compared_is_said(models_of, says):
    first, second = models_of()
    x = (
        {"x": np.array([[1, 0, 1, 1], [0, 0, 0, 1]], np.uint8)}
        if says != "no numbers"
        else {"x": -np.ones((2, 3), "f4")}
    )
    with pytest.raises(InvalidRequest, match=says) as caught:
        agreement(first, second, Samples(x, 0 if says != "no numbers" else 1), lambda done: None)
    assert caught.value.reason == "agreement.impossible"


def logarithm():
    """`x` [n, 3] in, its logarithm `y` out: no number where x is negative."""
    x = ops.parameter([-1, 3], np.float32, name="x")
    x.output(0).set_names({"x"})
    y = ops.log(x)
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x], "logarithm")


def test_nothing_is_told_to_anybody(trained, tmp_path):
    import subprocess
    import sys

    code = (
        "import cloister.prepare.quantization, cloister.prepare.conversion, nncf, sys\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert not any(name.startswith('openvino_telemetry.') for name in sys.modules)\n"
        "assert telemetry_utils.tm.__name__.endswith('telemetry_stub')\n"
        "assert 'Mock' in str(nncf.telemetry.telemetry)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_too_small_a_set(trained):
    with pytest.raises(InvalidRequest, match="too few"):
        quantization.quantize(trained.model, Samples({"pixels": trained.pixels[:1]}, 1))
