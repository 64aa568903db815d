"""Small models for tests, built from plain operations, as files in memory."""

import io
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType

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


def mixed() -> ov.Model:
    """`a` FP32 [n, 3] and `b` INT64 [n, 3] in; their `sum` by rows [n, 1] and b's `double` out."""
    a, b = ops.parameter([-1, 3], np.float32, name="a"), ops.parameter([-1, 3], np.int64, name="b")
    a.output(0).set_names({"a"})
    b.output(0).set_names({"b"})
    total = ops.reduce_sum(ops.add(a, ops.convert(b, "f32")), ops.constant([1]), keep_dims=True)
    double = ops.add(b, b)
    total.output(0).set_names({"sum"})
    double.output(0).set_names({"double"})
    return ov.Model([ops.result(total), ops.result(double)], [a, b], "mixed")


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


def wide(width: int = 2048) -> ov.Model:
    """`x` [n, 30] in, `sum` [n] out; most of a millisecond to read its weights, however many rows there are.

    With twice the width it is four times that.
    """
    rng = np.random.default_rng(7)
    x = ops.parameter([-1, FEATURES], np.float32, name="x")
    x.output(0).set_names({"x"})
    value: ov.Node = x
    for before, after in ((FEATURES, width), (width, width), (width, 8)):
        weights = ops.constant((rng.standard_normal((before, after)) / before**0.5).astype(np.float32))
        value = ops.tanh(ops.matmul(value, weights, transpose_a=False, transpose_b=False))
    total = ops.reduce_sum(value, ops.constant([1]), keep_dims=False)
    total.output(0).set_names({"sum"})
    return ov.Model([ops.result(total)], [x], "wide")


def pictures(side: int) -> ov.Model:
    """`image` [n, 3, side, side] in, `scores` [n, 10] and the `seen` image out: a convolution weighs every pixel."""
    rng = np.random.default_rng(5)
    image = ops.parameter([-1, 3, side, side], np.float32, name="image")
    image.output(0).set_names({"image"})
    kernel = ops.constant(rng.standard_normal((4, 3, 3, 3)).astype(np.float32))
    value = ops.relu(ops.convolution(image, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    pooled = ops.reduce_mean(value, ops.constant([2, 3]), keep_dims=False)
    weights = ops.constant(rng.standard_normal((4, 10)).astype(np.float32))
    scores = ops.matmul(pooled, weights, transpose_a=False, transpose_b=False)
    scores.output(0).set_names({"scores"})
    seen = ops.concat([image], 0)
    seen.output(0).set_names({"seen"})
    return ov.Model([ops.result(scores), ops.result(seen)], [image], "pictures")


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


def breakable() -> ov.Model:
    """`at` [n] in, the same `y` [n] out; a row of 4 cannot be evaluated, and takes the whole batch with it."""
    at = ops.parameter([-1], np.int64, name="at")
    at.output(0).set_names({"at"})
    where = ops.reduce_max(at, ops.constant([0]), keep_dims=True)
    written = ops.scatter_update(
        ops.constant(np.zeros(4, np.float32)), where, ops.constant(np.array([9], np.float32)), ops.constant(0)
    )
    never = ops.convert(ops.less(ops.reduce_sum(written, ops.constant([0]), keep_dims=False), np.float32(0)), "i64")
    y = ops.add(at, never)
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [at], "breakable")


def echo(dtype: np.dtype, shape: tuple[int, ...] = (-1, 3)) -> ov.Model:
    """`x` in, the same `y` out."""
    x = ops.parameter(list(shape), dtype, name="x")
    x.output(0).set_names({"x"})
    y = ops.concat([x], 0)
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x], "echo")


TYPES = MappingProxyType(
    {
        "BOOL": ov.Type.boolean,
        **{f"UINT{bits}": getattr(ov.Type, f"u{bits}") for bits in (8, 16, 32, 64)},
        **{f"INT{bits}": getattr(ov.Type, f"i{bits}") for bits in (8, 16, 32, 64)},
        "FP16": ov.Type.f16,
        "BF16": ov.Type.bf16,
        "FP32": ov.Type.f32,
        "FP64": ov.Type.f64,
    }
)


def every_type(shape: tuple[int, ...], names: Iterable[str] = TYPES) -> ov.Model:
    """An input of each datatype that OpenVINO has, named after it; of each, itself (`same FP32`) and a `made FP32` out.

    What is made is x + x, or the opposite of a truth.
    """
    parameters, results = [], []
    for name in names:
        x = ops.parameter(list(shape), TYPES[name], name=name)
        x.output(0).set_names({name})
        parameters.append(x)
        same = ops.reshape(x, ops.shape_of(x), special_zero=False)
        made = ops.logical_not(x) if name == "BOOL" else ops.add(x, x)
        for label, node in (("same", same), ("made", made)):
            node.output(0).set_names({f"{label} {name}"})
            results.append(ops.result(node))
    return ov.Model(results, parameters, "every_type")


def indexed(kind: str, index: np.dtype, *, length: int = 8) -> ov.Model:
    """`x` [length, 4] (or [length]) and the index `at` in, `y` out. Positions along the first axis.

    Args:
        kind: Of the operation; `Gather 1D` takes from a vector.
        index: Element type of `at`.
        length: -1 leaves it open.
    """
    x = ops.parameter([length] if kind == "Gather 1D" else [length, 4], np.int32, name="x")
    at = ops.parameter({"GatherND": [3, 1], "ScatterNDUpdate": [3, 1]}.get(kind, [3]), index, name="at")
    sevens = ops.constant(np.full((3, 4), 7, np.int32))
    if kind in ("GatherElements", "ScatterElementsUpdate"):
        at = ops.parameter([3, 4], index, name="at")
    x.output(0).set_names({"x"})
    at.output(0).set_names({"at"})
    y = {
        "Gather": lambda: ops.gather(x, at, ops.constant(0)),
        "Gather 1D": lambda: ops.gather(x, at, ops.constant(0)),
        "GatherElements": lambda: ops.gather_elements(x, at, 0),
        "GatherND": lambda: ops.gather_nd(x, at),
        "ScatterUpdate": lambda: ops.scatter_update(x, at, sevens, ops.constant(0)),
        "ScatterElementsUpdate": lambda: ops.scatter_elements_update(x, at, sevens, ops.constant(0)),
        "ScatterNDUpdate": lambda: ops.scatter_nd_update(x, at, sevens),
    }[kind]()
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x, at], kind)


def counted(shape: tuple[int, ...] = (4,)) -> ov.Model:
    """`x` in, the places `y` [rank, 0..n] where it is not zero out: as many as x says, but never more than x has."""
    x = ops.parameter(list(shape), np.uint8, name="x")
    x.output(0).set_names({"x"})
    y = ops.non_zero(x, "i64")
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x], "counted")


def bomb(rank: int = 2) -> ov.Model:
    """`size` [rank] in, the sum `y` of that many ones out: a few bytes that ask for any amount of memory."""
    size = ops.parameter([rank], np.int64, name="size")
    size.output(0).set_names({"size"})
    y = ops.reduce_sum(ops.broadcast(ops.constant(np.float32(1)), size), ops.constant(np.arange(rank)), keep_dims=False)
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [size], "bomb")


def branching() -> ov.Model:
    """`x` [8], `at` [3] and `which` [] in; `y` [3] out: x at `at`, taken inside a branch, or zeros."""
    x, at = ops.parameter([8], np.int32, name="x"), ops.parameter([3], np.int32, name="at")
    which = ops.parameter([], np.bool_, name="which")
    for parameter in (x, at, which):
        parameter.output(0).set_names({parameter.get_friendly_name()})
    inner_x, inner_at, other = (ops.parameter([size], np.int32) for size in (8, 3, 3))
    taken = ops.result(ops.gather(inner_x, inner_at, ops.constant(0)))
    zeros = ops.result(ops.multiply(other, ops.constant(np.int32(0))))
    branch = ops.if_op(which)
    branch.set_then_body(ov.Model([taken], [inner_x, inner_at]))
    branch.set_else_body(ov.Model([zeros], [other]))
    branch.set_input(x.output(0), inner_x, None)
    branch.set_input(at.output(0), inner_at, other)
    y = branch.set_output(taken, zeros)
    y.set_names({"y"})
    return ov.Model([ops.result(y)], [x, at, which], "branching")


def rounds() -> ov.Model:
    """`times` [] and `x` [2] in, `y` [2] out: x doubled that many times."""
    times, x = ops.parameter([], np.int64, name="times"), ops.parameter([2], np.float32, name="x")
    times.output(0).set_names({"times"})
    x.output(0).set_names({"x"})
    inner = ops.parameter([2], np.float32)
    doubled, go_on = ops.result(ops.add(inner, inner)), ops.result(ops.constant(True))
    loop = ops.loop(times, ops.constant(True))
    loop.set_function(ov.Model([doubled, go_on], [inner]))
    loop.set_special_body_ports([-1, 1])
    loop.set_merged_input(inner, x.output(0), doubled.output(0))
    y = loop.get_iter_value(doubled.output(0), -1)
    y.set_names({"y"})
    return ov.Model([ops.result(y)], [times, x], "rounds")


def ir(model: ov.Model, folder: Path) -> dict[str, memoryview]:
    """The model as OpenVINO IR."""
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return {name: memoryview((folder / name).read_bytes()) for name in ("model.xml", "model.bin")}


def onnx(*, external: bool = False, hidden: int = 0) -> bytes:
    """`x` [n, 3] in, `y` [n, 2] out, written by hand: one MatMul with weights 0 to 5.

    Args:
        external: Let the weights lie in another file.
        hidden: Added to the numbers of the fields that say so.
    """
    weights = np.arange(6, dtype="<f4").reshape(3, 2)
    tensor = b"".join(field(1, size) for size in weights.shape) + field(2, 1) + field(8, b"w")
    if external:
        tensor += field(hidden + 13, field(1, b"location") + field(2, b"/etc/hostname")) + field(hidden + 14, 1)
    else:
        tensor += field(9, weights.tobytes())
    node = field(1, b"x") + field(1, b"w") + field(2, b"y") + field(4, b"MatMul")
    graph = field(1, node) + field(2, b"g") + field(5, tensor)
    graph += field(11, _value_info(b"x", 3)) + field(12, _value_info(b"y", 2))
    return field(1, 8) + field(8, field(1, b"") + field(2, 13)) + field(7, graph)


def onnx_gather_nd() -> bytes:
    """`x` FP32 [n, 3] and `at` INT64 [n, 1] in, `y` [n, 3] out: rows of x."""
    node = field(1, b"x") + field(1, b"at") + field(2, b"y") + field(4, b"GatherND")
    graph = field(1, node) + field(2, b"g") + field(11, _value_info(b"x", 3)) + field(11, _value_info(b"at", 1, 7))
    graph += field(12, _value_info(b"y", 3))
    return field(1, 8) + field(8, field(1, b"") + field(2, 13)) + field(7, graph)


def _value_info(name: bytes, width: int, kind: int = 1) -> bytes:
    shape = field(1, field(2, b"n")) + field(1, field(1, width))
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def field(number: int, value: int | bytes) -> bytes:
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


PLANTED_WEIGHTS = b"PLANTED-WEIGHTS-" + bytes(range(48))
PLANTED_NAME = "planted-name-of-a-layer"


def planted() -> ov.Model:
    """`x` [n, 16] in, `y` [n, 4096] out: a mebibyte of weights that begin with `PLANTED_WEIGHTS`, in a named layer."""
    x = ops.parameter([-1, 16], np.float32, name="x")
    x.output(0).set_names({"x"})
    marked, plain = (np.random.default_rng(seed).standard_normal(4096 * 16).astype(np.float32) for seed in (1, 2))
    marked.view(np.uint8)[: len(PLANTED_WEIGHTS)] = np.frombuffer(PLANTED_WEIGHTS, np.uint8)
    y = x
    for weights, shape in ((marked, (16, 4096)), (plain, (4096, 16)), (marked, (16, 4096))):
        y = ops.relu(ops.matmul(y, ops.constant(weights.reshape(shape)), transpose_a=False, transpose_b=False))
        y.set_friendly_name(PLANTED_NAME)
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x], "planted")
