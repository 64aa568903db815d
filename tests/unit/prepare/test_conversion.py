"""What OpenVINO reads without another framework, and what is wrong with a source, in words."""

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from cloister.errors import InvalidRequest
from cloister.prepare import sources
from cloister.prepare.conversion import convert
from cloister.prepare.files import input_names, port_name
from cloister.prepare.inputs import all_declared
from fakes import networks

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "models"


@pytest.fixture
def onnx(tmp_path):
    (tmp_path / "network.onnx").write_bytes(networks.onnx())
    return str(tmp_path / "network.onnx")


def test_onnx_becomes_openvinos_own_with_the_same_answers(onnx):
    made = convert(onnx, all_declared(["x=?x3"]), ["scores"])
    assert made.difference is None, "nothing here evaluates ONNX beside it"
    assert (input_names(made.model), port_name(made.model.outputs[0])) == (["x"], "scores")
    x = np.array([[1, 2, 3]], np.float32)
    found = ov.Core().compile_model(made.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]
    assert found.tolist() == (x @ np.arange(6, dtype=np.float32).reshape(3, 2)).tolist()


@pytest.mark.parametrize(("folder", "file"), [("saved_two", ""), ("keras_cnn", ""), ("paddle_cnn", "model.pdmodel")])
def test_what_other_frameworks_saved_answers_as_they_do(folder, file):
    kept = dict(np.load(VECTORS / folder / "answers.npz"))
    model = convert(str(VECTORS / folder / file), ()).model
    inputs = {name.removeprefix("in:"): array for name, array in kept.items() if name.startswith("in:")}
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    found = ov.Core().compile_model(model, "CPU", config).create_infer_request().infer(inputs)
    expected = [array for name, array in kept.items() if name.startswith("out:")]
    assert len(found) == len(expected)
    for theirs in expected:
        assert any(ours.shape == theirs.shape and np.allclose(ours, theirs, atol=1e-5) for ours in found.values()), (
            "an answer of the framework is missing"
        )


def test_an_open_axis_may_be_closed(onnx):
    assert convert(onnx, all_declared(["x=4x3"])).model.input(0).shape == [4, 3]


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        (["z=?x3"], [], "has no input 'z'; it has x"),
        (["x=?x5"], [], "does not take these shapes"),
        ([], ["a", "b"], "has 1 outputs, and 2 are named"),
    ],
)
def test_what_does_not_fit_the_model_is_named(onnx, inputs, outputs, says):
    with pytest.raises(InvalidRequest, match=says) as caught:
        convert(onnx, all_declared(inputs), outputs)
    assert caught.value.reason == "shape.other"


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(FileNotFoundError):
        convert(str(tmp_path / "nothing.onnx"), ())
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x01")
    with pytest.raises(InvalidRequest, match=r"cannot read broken\.onnx") as caught:
        convert(str(tmp_path / "broken.onnx"), ())
    assert caught.value.reason == "model.unreadable"


@pytest.mark.parametrize("source", ["network.py:make", "package.module:Net", "folder/network.py:make"])
def test_what_names_a_factory(source):
    assert sources.is_factory(source)


@pytest.mark.parametrize("source", ["model.onnx", "folder", "C:", ":make", "network.py:", "network.py:not a name"])
def test_what_does_not(source):
    assert not sources.is_factory(source)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise ValueError('out of order')", "cannot be imported: ValueError: out of order"),
        ("def", "cannot be imported: SyntaxError"),
        ("import nothing_like_it", "No module named 'nothing_like_it'"),
        ("make = 3", "has no callable 'make'"),
        ("other = print", "has no callable 'make'"),
        ("def make(): raise KeyError('weights')", "failed: KeyError"),
        ("def make(size): return size", "failed: TypeError"),
    ],
)
def test_what_is_wrong_with_the_owners_code_is_for_the_owner_to_read(tmp_path, text, says):
    (tmp_path / "broken_network.py").write_text(text)
    with pytest.raises(InvalidRequest, match=says) as caught:
        sources.made(f"{tmp_path}/broken_network.py:make")
    assert caught.value.reason == "source.unusable"


def test_what_a_factory_made(tmp_path, monkeypatch):
    (tmp_path / "some_network.py").write_text("def make():\n    return 7\n")
    assert sources.made(f"{tmp_path}/some_network.py:make") == 7
    monkeypatch.chdir(tmp_path)
    assert sources.made("some_network:make") == 7


def test_nothing_is_compared_in_vain(onnx):
    with pytest.raises(InvalidRequest, match="leave out the example"):
        convert(onnx, (), examples={"x": np.zeros((1, 3), np.float32)})


def test_a_source_that_says_too_little():
    with pytest.raises(InvalidRequest, match=r"network\.py:make"):
        convert("network.py", ())
    with pytest.raises(InvalidRequest, match="declare each input") as caught:
        convert("network.py:make", ())
    assert caught.value.reason == "shape.missing"
