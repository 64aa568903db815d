"""Small models for tests, built from plain operations, as files in memory."""

import io
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

FEATURES = 30


def tiny() -> ov.Model:
    """`x` [n, 30] in, `p` [n, 2] and `sum` [n] out; a few microseconds."""
    rng = np.random.default_rng(7)
    x = ops.parameter([-1, FEATURES], np.float32, name="x")
    x.output(0).set_names({"x"})
    weights = ops.constant(rng.standard_normal((FEATURES, 2)).astype(np.float32))
    p = ops.softmax(ops.matmul(x, weights, transpose_a=False, transpose_b=False), 1)
    p.output(0).set_names({"p"})
    total = ops.reduce_sum(x, ops.constant([1]), keep_dims=False)
    total.output(0).set_names({"sum"})
    return ov.Model([ops.result(p), ops.result(total)], [x], "tiny")


def slow() -> ov.Model:
    """`x` [n, 32, 32, 32] in, `y` [n, 10] out; some milliseconds."""
    rng = np.random.default_rng(7)
    x = ops.parameter([-1, 32, 32, 32], np.float32, name="x")
    x.output(0).set_names({"x"})
    value = x
    for _ in range(4):
        kernel = ops.constant((rng.standard_normal((32, 32, 3, 3)) * 0.1).astype(np.float32))
        value = ops.relu(ops.convolution(value, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    pooled = ops.reduce_mean(value, ops.constant([2, 3]), keep_dims=False)
    weights = ops.constant(rng.standard_normal((32, 10)).astype(np.float32))
    y = ops.matmul(pooled, weights, transpose_a=False, transpose_b=False)
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x], "slow")


def product() -> ov.Model:
    """`a` [?, ?] and `b` [?, ?] in, their matrix product `c` out: shapes that fit the contract may not fit together."""
    a = ops.parameter([-1, -1], np.float32, name="a")
    b = ops.parameter([-1, -1], np.float32, name="b")
    a.output(0).set_names({"a"})
    b.output(0).set_names({"b"})
    c = ops.matmul(a, b, transpose_a=False, transpose_b=False)
    c.output(0).set_names({"c"})
    return ov.Model([ops.result(c)], [a, b], "product")


def picker() -> ov.Model:
    """`x` [4] and `at` [1] in, `y` [4] out: x with a 9 put at `at`. An index beyond x cannot be evaluated."""
    x = ops.parameter([4], np.float32, name="x")
    at = ops.parameter([1], np.int64, name="at")
    x.output(0).set_names({"x"})
    at.output(0).set_names({"at"})
    y = ops.scatter_update(x, at, ops.constant(np.array([9], np.float32)), ops.constant(0))
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x, at], "picker")


def echo(dtype: np.dtype, shape: tuple[int, ...] = (-1, 3)) -> ov.Model:
    """`x` in, the same `y` out."""
    x = ops.parameter(list(shape), dtype, name="x")
    x.output(0).set_names({"x"})
    y = ops.concat([x], 0)
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x], "echo")


def ir(model: ov.Model, folder: Path) -> dict[str, memoryview]:
    """The model as OpenVINO IR."""
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return {name: memoryview((folder / name).read_bytes()) for name in ("model.xml", "model.bin")}


def onnx(*, external: bool = False) -> bytes:
    """`x` [n, 3] in, `y` [n, 2] out, written by hand: one MatMul with weights 0 to 5.

    Args:
        external: Let the weights lie in another file.
    """
    weights = np.arange(6, dtype="<f4").reshape(3, 2)
    tensor = b"".join(_field(1, size) for size in weights.shape) + _field(2, 1) + _field(8, b"w")
    if external:
        tensor += _field(13, _field(1, b"location") + _field(2, b"/etc/hostname")) + _field(14, 1)
    else:
        tensor += _field(9, weights.tobytes())
    node = _field(1, b"x") + _field(1, b"w") + _field(2, b"y") + _field(4, b"MatMul")
    graph = _field(1, node) + _field(2, b"g") + _field(5, tensor)
    graph += _field(11, _value_info(b"x", 3)) + _field(12, _value_info(b"y", 2))
    return _field(1, 8) + _field(8, _field(1, b"") + _field(2, 13)) + _field(7, graph)


def _value_info(name: bytes, width: int) -> bytes:
    shape = _field(1, _field(2, b"n")) + _field(1, _field(1, width))
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = io.BytesIO()
    while True:
        low, value = value & 0x7F, value >> 7
        out.write(bytes([low | (0x80 if value else 0)]))
        if not value:
            return out.getvalue()
