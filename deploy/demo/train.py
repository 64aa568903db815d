"""The data-science part of the demonstration: patients' measurements in, an OpenVINO model out.

A small network learns to tell malignant from benign tumours from the breast-cancer records that come with
scikit-learn (569 patients, 30 measurements each; Wolberg, Street and Mangasarian, 1995). Its weights are then written
as an OpenVINO model by plain operations, so that the enclave needs no scikit-learn. The scaling that training used is
folded into the first layer: the served model takes the measurements as the clinic wrote them down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

MODEL_NAME = "breast-cancer"
FEATURES = 30
LABELS = ("malignant", "benign")


@dataclass(frozen=True)
class Records:
    """Measurements of shape [n, 30], float32, and what the pathologist found: an index into `LABELS`."""

    measurements: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Layer:
    """y = x · weights + bias."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]


def split() -> tuple[Records, Records]:
    """The records to train on, and a quarter of them that training never sees."""
    data = load_breast_cancer()
    seen, held_out, seen_labels, held_out_labels = train_test_split(
        data.data.astype(np.float32), data.target, test_size=0.25, random_state=7, stratify=data.target
    )
    return Records(seen, seen_labels), Records(held_out, held_out_labels)


def train(records: Records) -> list[Layer]:
    """Fit 30 → 16 → 1 and fold the scaling into the first layer, in double precision before rounding once."""
    scaler = StandardScaler().fit(records.measurements.astype(np.float64))
    network = MLPClassifier(hidden_layer_sizes=(16,), alpha=1e-2, max_iter=600, random_state=7)
    network.fit(scaler.transform(records.measurements.astype(np.float64)), records.labels)
    (first, last), (first_bias, last_bias) = network.coefs_, network.intercepts_
    scaled = first / scaler.scale_[:, None]
    return [
        Layer(scaled.astype(np.float32), (first_bias - scaler.mean_ @ scaled).astype(np.float32)),
        Layer(last.astype(np.float32), last_bias.astype(np.float32)),
    ]


def build(layers: list[Layer]) -> ov.Model:
    """The network as an OpenVINO model: `measurements` [n, 30] in, `benign_probability` [n, 1] out."""
    measurements = ops.parameter([-1, FEATURES], np.float32, name="measurements")
    measurements.output(0).set_names({"measurements"})
    value: ov.Node = measurements
    for depth, layer in enumerate(layers):
        product = ops.matmul(value, ops.constant(layer.weights), transpose_a=False, transpose_b=False)
        value = ops.add(product, ops.constant(layer.bias[None, :]))
        value = ops.sigmoid(value) if depth == len(layers) - 1 else ops.relu(value)
    value.output(0).set_names({"benign_probability"})
    return ov.Model([ops.result(value)], [measurements], MODEL_NAME)


def save(model: ov.Model, folder: Path) -> tuple[Path, Path]:
    """Write `model.xml` and `model.bin`, weights in full precision."""
    folder.mkdir(parents=True, exist_ok=True)
    xml = folder / "model.xml"
    ov.save_model(model, xml, compress_to_fp16=False)
    return xml, xml.with_suffix(".bin")
