"""The networks that are served, built from plain operations: true topologies, random weights, nothing to download.

Weights are drawn from one seed, scaled so that activations neither vanish nor overflow: speed does not depend on what
they are, and answers must differ from input to input. Batch normalisation is folded into the convolutions, as every
exporter for inference does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor

SEED = 7
MEAN, SCALE = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, for bytes


class Weights:
    """Draws constants."""

    def __init__(self) -> None:
        self._draw = np.random.default_rng(SEED)

    def drawn(self, *shape: int, inputs: int) -> ov.Node:
        """Weights for a sum over so many inputs (He et al., 2015)."""
        values = self._draw.standard_normal(shape, np.float32) * np.float32((2 / inputs) ** 0.5)
        return ops.constant(values)

    def dense(self, value: ov.Node, inputs: int, outputs: int) -> ov.Node:
        """`value` · weights + bias."""
        product = ops.matmul(value, self.drawn(inputs, outputs, inputs=inputs), False, False)
        return ops.add(product, self.drawn(1, outputs, inputs=100))

    def convolved(self, value: ov.Node, channels: Sequence[int], kernel: int, stride: int = 1) -> ov.Node:
        """`value` under a square kernel from `channels[0]` to `channels[1]`, padded to keep its size, and a bias."""
        before, after = channels
        weights = self.drawn(after, before, kernel, kernel, inputs=before * kernel * kernel)
        pad = [kernel // 2, kernel // 2]
        value = ops.convolution(value, weights, [stride, stride], pad, pad, [1, 1])
        return ops.add(value, self.drawn(1, after, 1, 1, inputs=100))


def mlp() -> ov.Model:
    """30 → 64 → 32 → 2 on a table's row: `x` FP32 [n, 30] in, `p` [n, 2] out."""
    return _perceptron("mlp", (30, 64, 32, 2))


def ffnn() -> ov.Model:
    """The feed-forward network of Crayfish (EDBT 2024) for 28 × 28 images: three hidden layers of 32, ten classes."""
    return _perceptron("ffnn", (784, 32, 32, 32, 10))


def colours() -> ov.Model:
    """A large request for a small computation: `image` UINT8 [n, 224, 224, 3], its mean colours in 7 × 7 fields."""
    weights = Weights()
    image = _parameter("image", [-1, 224, 224, 3], np.uint8)
    fields = ops.reshape(ops.convert(image, "f32"), ops.constant([0, 7, 32, 7, 32, 3]), special_zero=True)
    means = ops.reduce_mean(fields, ops.constant([2, 4]), keep_dims=False)
    flat = ops.reshape(ops.multiply(means, ops.constant(np.float32(1 / 255))), ops.constant([0, -1]), special_zero=True)
    return _model("colours", [image], {"logits": weights.dense(flat, 7 * 7 * 3, 10)})


def resnet50() -> ov.Model:
    """ResNet-50 v1.5 (stride in the 3 × 3): `image` FP32 [n, 3, 224, 224] in, `logits` [n, 1000] out."""
    weights = Weights()
    image = _parameter("image", [-1, 3, 224, 224], np.float32)
    value = ops.relu(weights.convolved(image, (3, 64), 7, 2))
    value = ops.max_pool(value, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    before = 64
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            value = _bottleneck(weights, value, before, width, stride, projects=not block)
            before = 4 * width
    pooled = ops.reduce_mean(value, ops.constant([2, 3]), keep_dims=False)
    return _model("resnet50", [image], {"logits": weights.dense(pooled, before, 1000)})


def resnet50_u8() -> ov.Model:
    """The same for images as they come: `image` UINT8 [n, 224, 224, 3] in, converted and scaled inside the model."""
    prepared = PrePostProcessor(resnet50())
    image = prepared.input("image")
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    image.model().set_layout(ov.Layout("NCHW"))
    image.preprocess().convert_element_type(ov.Type.f32).mean(list(MEAN)).scale(list(SCALE))
    return prepared.build()


def bert(layers: int = 12, width: int = 768, heads: int = 12, words: int = 30522) -> ov.Model:
    """BERT-base for 128 tokens: `input_ids`, `attention_mask`, `token_type_ids` INT64 [n, 128], `pooled` [n, 768]."""
    weights = Weights()
    tokens = [-1, 128]
    ids = _parameter("input_ids", tokens, np.int64)
    mask = _parameter("attention_mask", tokens, np.int64)
    types = _parameter("token_type_ids", tokens, np.int64)
    value = ops.gather(weights.drawn(words, width, inputs=2), ids, ops.constant(0))
    value = ops.add(value, ops.gather(weights.drawn(2, width, inputs=2), types, ops.constant(0)))
    value = _normed(ops.add(value, weights.drawn(1, 128, width, inputs=2)))
    padding = ops.subtract(ops.constant(np.float32(1)), ops.convert(mask, "f32"))
    unseen = ops.unsqueeze(ops.multiply(padding, ops.constant(np.float32(-1e4))), ops.constant([1, 2]))
    for _ in range(layers):
        value = _normed(ops.add(value, _attention(weights, value, unseen, width, heads)))
        hidden = ops.gelu(weights.dense(value, width, 4 * width), "erf")
        value = _normed(ops.add(value, weights.dense(hidden, 4 * width, width)))
    first = ops.gather(value, ops.constant(0), ops.constant(1))
    return _model("bert", [ids, mask, types], {"pooled": ops.tanh(weights.dense(first, width, width))})


def _perceptron(name: str, sizes: Sequence[int]) -> ov.Model:
    weights = Weights()
    x = _parameter("x", [-1, sizes[0]], np.float32)
    value: ov.Node = x
    for depth, (before, after) in enumerate(itertools.pairwise(sizes)):
        value = weights.dense(value if not depth else ops.relu(value), before, after)
    return _model(name, [x], {"p": ops.softmax(value, 1)})


def _bottleneck(weights: Weights, value: ov.Node, before: int, width: int, stride: int, *, projects: bool) -> ov.Node:
    shortcut = weights.convolved(value, (before, 4 * width), 1, stride) if projects else value
    value = ops.relu(weights.convolved(value, (before, width), 1))
    value = ops.relu(weights.convolved(value, (width, width), 3, stride))
    value = weights.convolved(value, (width, 4 * width), 1)
    level = ops.constant(np.float32(0.5**0.5))  # or sixteen sums of two would grow the activations without end
    return ops.relu(ops.multiply(ops.add(value, shortcut), level))


def _attention(weights: Weights, value: ov.Node, unseen: ov.Node, width: int, heads: int) -> ov.Node:
    shape, order = ops.constant([0, 0, heads, width // heads]), ops.constant([0, 2, 1, 3])
    query, key, worth = (
        ops.transpose(ops.reshape(weights.dense(value, width, width), shape, special_zero=True), order)
        for _ in range(3)
    )
    scores = ops.multiply(ops.matmul(query, key, False, True), ops.constant(np.float32((width // heads) ** -0.5)))
    mixed = ops.matmul(ops.softmax(ops.add(scores, unseen), -1), worth, False, False)
    joined = ops.reshape(ops.transpose(mixed, order), ops.constant([0, 0, width]), special_zero=True)
    return weights.dense(joined, width, width)


def _normed(value: ov.Node) -> ov.Node:
    return ops.mvn(value, ops.constant([-1]), True, 1e-12, "inside_sqrt")


def _parameter(name: str, shape: list[int], dtype: type[Any]) -> ov.Node:
    parameter = ops.parameter(shape, dtype, name=name)
    parameter.output(0).set_names({name})
    return parameter


def _model(name: str, inputs: list[ov.Node], outputs: dict[str, ov.Node]) -> ov.Model:
    for output, value in outputs.items():
        value.output(0).set_names({output})
    return ov.Model([ops.result(value) for value in outputs.values()], inputs, name)


def images(draw: np.random.Generator) -> NDArray[np.uint8]:
    """One picture of noise, [1, 224, 224, 3]."""
    return draw.integers(0, 256, (1, 224, 224, 3), np.uint8)
