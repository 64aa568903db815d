"""A small classifier of handwritten digits, really trained, as an OpenVINO model; and digits that it has not seen."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

PIXELS = 64
CLASSES = 10


class Trained(NamedTuple):
    """`pixels` [n, 64] of 0 to 1 in, `scores` [n, 10] out.

    Attributes:
        pixels: That it was not trained on.
        labels: What they show.
    """

    model: ov.Model
    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]

    def save(self, folder: Path) -> None:
        """`model.xml` and `model.bin`, and `calibration.npz` with `pixels` and `labels`."""
        folder.mkdir(parents=True, exist_ok=True)
        ov.save_model(self.model, folder / "model.xml", compress_to_fp16=False)
        np.savez(folder / "calibration.npz", pixels=self.pixels, labels=self.labels)


@functools.cache
def trained() -> Trained:
    """Train it; a third of a second."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    data: Any = load_digits()
    pixels, labels = (data.data / 16).astype(np.float32), data.target
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not have converged
        network = MLPClassifier((32,), max_iter=100, random_state=7).fit(pixels[::2], labels[::2])
    x = ops.parameter([-1, PIXELS], np.float32, name="pixels")
    x.output(0).set_names({"pixels"})
    value: ov.Node = x
    for depth, (weights, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        product = ops.matmul(value, ops.constant(weights.astype(np.float32)), transpose_a=False, transpose_b=False)
        value = ops.add(product, ops.constant(bias.astype(np.float32)[None]))
        value = ops.softmax(value, 1) if depth else ops.relu(value)
    value.output(0).set_names({"scores"})
    return Trained(ov.Model([ops.result(value)], [x], "digits"), pixels[1::2], labels[1::2])
