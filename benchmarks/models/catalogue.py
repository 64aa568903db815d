"""Which networks there are to serve, what to ask them, and where their files lie once they are built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import openvino as ov
from benchmarks.models import networks
from numpy.typing import NDArray

Inputs = dict[str, NDArray[Any]]

QUESTIONS = 8
"""Different requests for each network: every answer is known, and no two are alike."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network to serve.

    Attributes:
        build: Makes it.
        inputs: Draws the inputs of one request.
        seconds: How long a round measures; a slow network needs longer for as good a median.
        warm_up_s: Before that.
    """

    name: str
    build: Callable[[], ov.Model]
    inputs: Callable[[np.random.Generator], Inputs]
    seconds: float = 3.0
    warm_up_s: float = 0.5

    def questions(self) -> list[Inputs]:
        """The same every time."""
        draw = np.random.default_rng(networks.SEED)
        return [self.inputs(draw) for _ in range(QUESTIONS)]

    def files(self, folder: Path) -> Path:
        """The path of `model.xml` (`model.bin` is beside it), built if it is not there."""
        xml = folder / self.name / "model.xml"
        if not xml.exists():
            xml.parent.mkdir(parents=True, exist_ok=True)
            building = xml.with_name("building.xml")
            ov.save_model(self.build(), building, compress_to_fp16=False)
            building.with_suffix(".bin").rename(xml.with_suffix(".bin"))
            building.rename(xml)  # last: whoever finds it finds both
        return xml


def _rows(width: int) -> Callable[[np.random.Generator], Inputs]:
    return lambda draw: {"x": draw.standard_normal((1, width), np.float32)}


def _image_f32(draw: np.random.Generator) -> Inputs:
    return {"image": draw.standard_normal((1, 3, 224, 224), np.float32)}


def _image_u8(draw: np.random.Generator) -> Inputs:
    return {"image": networks.images(draw)}


def _text(draw: np.random.Generator) -> Inputs:
    ones = np.ones((1, 128), np.int64)
    return {
        "input_ids": draw.integers(0, 30522, (1, 128), np.int64),
        "attention_mask": ones,
        "token_type_ids": 0 * ones,
    }


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        network.name: network
        for network in (
            Network("mlp", networks.mlp, _rows(30)),
            Network("ffnn", networks.ffnn, _rows(784)),
            Network("colours", networks.colours, _image_u8),
            Network("resnet50", networks.resnet50, _image_f32, seconds=8.0, warm_up_s=2.0),
            Network("resnet50-u8", networks.resnet50_u8, _image_u8, seconds=8.0, warm_up_s=2.0),
            Network("bert", networks.bert, _text, seconds=12.0, warm_up_s=3.0),
        )
    }
)
