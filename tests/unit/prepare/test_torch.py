"""PyTorch's models: exported, converted, and found to answer as PyTorch does. Run by `make test-convert`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from cloister.errors import InvalidRequest
from cloister.prepare.conversion import TOLERANCE, convert
from cloister.prepare.files import input_names, port_name, write_ir
from cloister.prepare.inputs import all_declared
from cloister.worker import models

if find_spec("torch") is None:
    pytest.skip("PyTorch is not installed here: 'make test-convert' runs these", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NETWORKS = str(Path(__file__).resolve().parents[2] / "fakes" / "torch_networks.py")
IMAGE = ["image=?x3x16x16"]
TOKENS = ["tokens=?x?6:INT64", "weight=?"]


def answers(model: ov.Model, *inputs: np.ndarray) -> list[np.ndarray]:
    found = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(list(inputs))
    return [found[port] for port in found]


def test_a_convolutional_network_answers_as_pytorch_does() -> None:
    import torch

    from fakes import torch_networks

    made = convert(f"{NETWORKS}:convolutional", all_declared(IMAGE), ["scores"])
    assert made.difference is not None
    assert made.difference <= TOLERANCE
    assert made.model.input(0).get_partial_shape() == ov.PartialShape([-1, 3, 16, 16])
    image = np.random.default_rng(1).standard_normal((5, 3, 16, 16)).astype(np.float32)
    with torch.no_grad():
        expected = torch_networks.convolutional().eval()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(answers(made.model, image)[0], expected, atol=1e-4)


def test_a_transformer_with_two_inputs_and_named_outputs() -> None:
    made = convert(f"{NETWORKS}:transformer", all_declared(TOKENS))
    assert made.difference is not None
    assert made.difference <= TOLERANCE
    assert input_names(made.model) == ["tokens", "weight"]
    assert [port_name(port) for port in made.model.outputs] == ["logits", "weighed"]
    logits, weighed = answers(made.model, np.ones((3, 9), np.int64), np.full(3, 2, np.float32))
    assert logits.shape == (3, 5)
    assert weighed.tolist() == [18.0] * 3


def test_workers_accept_what_comes_of_it(tmp_path: Path) -> None:
    for at, (factory, inputs) in enumerate((("convolutional", IMAGE), ("transformer", TOKENS))):
        (tmp_path / str(at)).mkdir()
        files = write_ir(convert(f"{NETWORKS}:{factory}", all_declared(inputs)).model, tmp_path / str(at))
        models.read({name: memoryview(path.read_bytes()) for name, path in files.items()})


def test_a_saved_program_and_torchscript(tmp_path: Path) -> None:
    import torch

    from fakes import torch_networks

    network, example = torch_networks.convolutional().eval(), (torch.randn(2, 3, 16, 16),)
    batch = {0: torch.export.Dim("batch")}
    torch.export.save(torch.export.export(network, example, dynamic_shapes=(batch,)), tmp_path / "network.pt2")
    torch.jit.trace(network, example).save(str(tmp_path / "network.pt"))
    for name in ("network.pt2", "network.pt"):
        made = convert(str(tmp_path / name), all_declared(IMAGE), ["scores"])
        assert made.difference is not None
        assert made.difference <= TOLERANCE
        assert input_names(made.model) == ["image"]
    assert convert(str(tmp_path / "network.pt2"), ()).difference is None


def test_a_size_that_the_code_looks_at_is_found_out() -> None:
    """By the exporter, or by the answers to one row more."""
    with pytest.raises(InvalidRequest, match="cannot export it with these shapes"):
        convert(f"{NETWORKS}:counting", all_declared(["x=?x4"]))
    fixed = convert(f"{NETWORKS}:counting", all_declared(["x=2x4"]))
    assert fixed.model.input(0).shape == [2, 4]


def test_a_model_that_answers_otherwise_every_time_is_not_converted() -> None:
    with pytest.raises(InvalidRequest, match="differs from PyTorch's") as caught:
        convert(f"{NETWORKS}:drifting", all_declared(["x=?x4"]))
    assert caught.value.reason == "conversion.differs"


def test_what_is_no_program(tmp_path: Path) -> None:
    import torch

    from fakes import torch_networks

    torch.save(torch_networks.convolutional().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InvalidRequest, match="is no program that PyTorch loads") as caught:
        convert(str(tmp_path / "weights.pt"), all_declared(IMAGE))
    assert caught.value.reason == "model.unreadable"
    with pytest.raises(InvalidRequest, match="makes a dict, and no torch"):
        convert(f"{NETWORKS}:no_network", all_declared(IMAGE))
    with pytest.raises(FileNotFoundError):
        convert(str(tmp_path / "nothing.pt2"), all_declared(IMAGE))


@pytest.mark.parametrize("inputs", [["image=?x4x16x16"], ["image=?x3x16x16", "other=?"], ["image=?x3:INT64"]])
def test_inputs_that_are_not_the_models(inputs: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="cannot export it with these shapes"):
        convert(f"{NETWORKS}:convolutional", all_declared(inputs))


def test_examples_of_ones_own() -> None:
    example = {"tokens": np.arange(8, dtype=np.int64).reshape(2, 4), "weight": np.ones(2, np.float32)}
    made = convert(f"{NETWORKS}:transformer", all_declared(TOKENS), examples=example)
    assert made.difference is not None
    assert made.difference <= TOLERANCE
