"""The topologies are those that their names promise: counted parameters are in the papers."""

from math import prod

import openvino as ov
import pytest
from benchmarks.models import networks


def parameters(model: ov.Model) -> int:
    """Floating-point numbers in weights and biases; what only shapes or scales is smaller."""
    weights = [each for each in model.get_ops() if each.get_type_name() == "Constant"]
    return sum(prod(each.shape) for each in weights if each.get_element_type() == ov.Type.f32 and prod(each.shape) > 1)


def test_the_tiny_ones_are_the_layers_that_they_say() -> None:
    assert parameters(networks.mlp()) == 30 * 64 + 64 + 64 * 32 + 32 + 32 * 2 + 2
    assert parameters(networks.ffnn()) == 784 * 32 + 32 + 2 * (32 * 32 + 32) + 32 * 10 + 10


def test_resnet_50_has_the_parameters_of_resnet_50() -> None:
    # 25 557 032 in torchvision, whose batch normalisation has two numbers for each channel where the folded has one.
    assert parameters(networks.resnet50()) == 25_557_032 - 26_560


def test_bert_has_the_parameters_of_its_layers() -> None:
    width, words, layers = 24, 50, 2
    embedding = (words + 2 + 128) * width
    layer = 4 * (width * width + width) + 8 * width * width + 5 * width
    found = parameters(networks.bert(layers, width, heads=4, words=words))
    assert found == embedding + layers * layer + width * width + width


@pytest.mark.parametrize("build", [networks.mlp, networks.ffnn, networks.colours, networks.resnet50_u8])
def test_inputs_and_outputs_are_named_and_open_in_the_first_axis(build: object) -> None:
    model = build()  # type: ignore[operator]
    for port in [*model.inputs, *model.outputs]:
        assert port.get_names()
        assert port.partial_shape[0].is_dynamic
