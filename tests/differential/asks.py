"""A thousand requests drawn from the grammar of the Open Inference Protocol, good ones and ones with one thing wrong.

The seed is fixed, so that every server is asked the same. What is wrong with a request is its `kind`, by which
`rules.py` speaks of it. Values are small multiples of a quarter, which every datatype and JSON hold exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

SEED: Final = 5
COUNT: Final = 1000
ROW: Final = 3
ECHOED: Final = ("BOOL", "UINT8", "INT32", "INT64", "FP16", "FP32", "FP64")
MIX: Final = "mix"


def echo_name(datatype: str) -> str:
    """The model that answers its input `x` as `y`."""
    return f"echo-{datatype.lower()}"


INPUTS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {MIX: {"a": "FP32", "b": "INT64"}, **{echo_name(each): {"x": each} for each in ECHOED}}
)
"""Datatypes of the inputs of each model, all [n, 3]."""
OUTPUTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {MIX: ("sum", "double"), **{echo_name(each): ("y",) for each in ECHOED}}
)


@dataclass(slots=True)
class Tensor:
    """An input as a request has it; `size` elements, whatever the shape says."""

    name: str
    datatype: str
    shape: list[int]
    values: list[Any]
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Ask:
    """One request, in no carrier's form yet.

    Attributes:
        kind: What is particular about it.
        raw: Whether gRPC carries raw contents.
        nested: Whether JSON nests the values by the shape.
        outputs: Names that are asked for, with parameters.
        carrier: The only one that can say it; empty for both.
        damage: Done to its finished form.
    """

    number: int
    kind: str
    model: str
    inputs: list[Tensor]
    version: str = ""
    id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    raw: bool = True
    nested: bool = False
    carrier: str = ""
    damage: Callable[[Any], Any] | None = None


def value(rng: random.Random, datatype: str) -> Any:
    """An element that the datatype holds exactly."""
    if datatype == "BOOL":
        return rng.random() < 0.5
    if datatype == "BYTES":
        return rng.choice([b"", b"one", b"\xc3\xa4"])
    return rng.randint(-20, 20) / 4 if datatype.startswith(("FP", "BF")) else rng.randint(0, 100)


def tensor(rng: random.Random, name: str, datatype: str, shape: list[int]) -> Tensor:
    """A tensor whose contents fit its shape."""
    size = 1
    for dim in shape:
        size *= max(dim, 0)
    return Tensor(name, datatype, shape, [value(rng, datatype) for _ in range(size)])


def good(rng: random.Random, number: int) -> Ask:
    """A request that is right in every way."""
    model, rows = rng.choice((MIX, MIX, *INPUTS)), rng.choice((1, 1, 2, 5))
    inputs = [tensor(rng, name, datatype, [rows, ROW]) for name, datatype in INPUTS[model].items()]
    # FP16 has no typed contents in the protocol.
    raw = rng.random() < 0.5 or model == echo_name("FP16")
    ask = Ask(number, "good", model, inputs, raw=raw, nested=rng.random() < 0.3)
    ask.version = rng.choice(("", "", "1"))
    ask.id = rng.choice(("", f"r-{number}", "same"))
    return ask


Change = Callable[[random.Random, Ask], None]


def _other(rng: random.Random, datatype: str) -> str:
    return rng.choice([each for each in (*ECHOED, "BYTES") if each != datatype])


def _last(change: Callable[[Tensor], None]) -> Change:
    return lambda _rng, ask: change(ask.inputs[-1])


def _reshaped(shape: Callable[[int], list[int]]) -> Change:
    """Contents that fit the shape, in a shape that does not fit the model."""

    def change(rng: random.Random, ask: Ask) -> None:
        given = ask.inputs[-1]
        ask.inputs[-1] = tensor(rng, given.name, given.datatype, shape(given.shape[0]))

    return change


def _datatype(rng: random.Random, ask: Ask) -> None:
    given = ask.inputs[-1]
    datatype = _other(rng, given.datatype)
    ask.inputs[-1] = tensor(rng, given.name, datatype, given.shape)
    ask.raw = ask.raw or datatype == "FP16"


def _set(**fields: Any) -> Change:
    def change(_rng: random.Random, ask: Ask) -> None:
        for name, content in fields.items():
            setattr(ask, name, content)

    return change


def _only(carrier: str, damage: Callable[[Any], Any]) -> Change:
    return _set(carrier=carrier, damage=damage)


def _short(given: Tensor) -> None:
    del given.values[-1]


def _long(given: Tensor) -> None:
    given.values.append(given.values[0])


def _typed(message: Any, contents: Callable[[Any], None]) -> bytes:
    del message.raw_input_contents[:]
    contents(message.inputs[-1].contents)
    return bytes(message.SerializeToString())


def _both(message: Any) -> bytes:
    message.inputs[-1].contents.fp32_contents.append(1.0)
    return bytes(message.SerializeToString())


def _raw_missing(message: Any) -> bytes:
    message.raw_input_contents.append(b"1234")
    return bytes(message.SerializeToString())


def _without(*path: str | int) -> Callable[[Any], Any]:
    def damage(content: Any) -> Any:
        inner = content
        for part in path[:-1]:
            inner = inner[part]
        del inner[path[-1]]
        return content

    return damage


def _with(replaced: Any, *path: str | int) -> Callable[[Any], Any]:
    def damage(content: Any) -> Any:
        inner = content
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = replaced
        return content

    return damage


# Of a good request, the kinds that stay good, and the kinds of one thing wrong.
GOOD: Final[Mapping[str, Change]] = MappingProxyType(
    {
        "good": lambda _rng, _ask: None,
        "outputs.some": lambda rng, ask: ask.outputs.append((rng.choice(OUTPUTS[ask.model]), {})),
        "outputs.reversed": lambda _rng, ask: ask.outputs.extend((each, {}) for each in reversed(OUTPUTS[ask.model])),
        "inputs.reversed": lambda _rng, ask: ask.inputs.reverse(),
        "parameters": lambda rng, ask: ask.parameters.update(
            rng.choice([{"a": "text"}, {"b": 3}, {"c": True}, {"d": 0.5}, {"sequence_id": 7, "sequence_start": True}])
        ),
        "input.parameters": _last(lambda given: given.parameters.update(unit="mmol")),
        "rows.none": lambda rng, ask: ask.inputs.__setitem__(
            slice(None), [tensor(rng, each.name, each.datatype, [0, ROW]) for each in ask.inputs]
        ),
        "id.long": _set(id="i" * 2000),
        "id.unicode": _set(id="zwölf ✓"),
    }
)
WRONG: Final[Mapping[str, Change]] = MappingProxyType(
    {
        "model.unknown": _set(model="none"),
        "model.odd": lambda rng, ask: setattr(
            ask, "model", rng.choice(["MIX", "mix ", "m" * 300, "mix@1", "a/b", ".."])
        ),
        "version.unknown": _set(version="9"),
        "version.odd": lambda rng, ask: setattr(ask, "version", rng.choice(["01", "-1", "latest", "1.0", "v" * 300])),
        "input.unknown": _last(lambda given: setattr(given, "name", "other")),
        "input.unnamed": _last(lambda given: setattr(given, "name", "")),
        "input.missing": lambda _rng, ask: ask.inputs.pop(),
        "input.extra": lambda rng, ask: ask.inputs.append(tensor(rng, "extra", "FP32", [1, ROW])),
        "input.twice": lambda _rng, ask: ask.inputs.append(replace(ask.inputs[-1])),
        "datatype.other": _datatype,
        "datatype.unknown": lambda rng, ask: setattr(
            ask.inputs[-1], "datatype", rng.choice(["FLOAT", "fp32", "", "INT128", "FP32 "])
        ),
        "shape.wider": _reshaped(lambda rows: [rows, ROW + 1]),
        "shape.flat": _reshaped(lambda rows: [rows * ROW]),
        "shape.deeper": _reshaped(lambda rows: [rows, ROW, 1]),
        "shape.scalar": _reshaped(lambda _rows: []),
        "shape.negative": _last(lambda given: setattr(given, "shape", [-1, ROW])),
        "shape.enormous": _last(lambda given: setattr(given, "shape", [1 << 40, 1 << 40])),
        "contents.short": _last(_short),
        "contents.long": _last(_long),
        "contents.none": _last(lambda given: setattr(given, "values", [])),
        "output.unknown": lambda _rng, ask: ask.outputs.append(("none", {})),
        "output.twice": lambda _rng, ask: ask.outputs.extend([(OUTPUTS[ask.model][0], {})] * 2),
        "output.classes": lambda _rng, ask: ask.outputs.append((OUTPUTS[ask.model][0], {"classification": 2})),
        "input.shared_memory": _last(lambda given: given.parameters.update(shared_memory_region="r")),
        "protobuf.cut": _only("grpc", lambda message: message.SerializeToString()[:-1]),
        "protobuf.garbage": _only("grpc", lambda _message: b"\xff\xff\xff"),
        "protobuf.empty": _only("grpc", lambda _message: b""),
        "protobuf.text": _only("grpc", lambda message: b"\x1a\x01\xff" + message.SerializeToString()),
        "contents.both": _only("grpc", _both),
        "contents.other_field": _only(
            "grpc", lambda message: _typed(message, lambda contents: contents.bytes_contents.append(b"x"))
        ),
        "contents.raw_count": _only("grpc", _raw_missing),
        "json.cut": _only("rest", lambda content: str(content)[:-1]),
        "json.list": _only("rest", lambda content: [content]),
        "json.empty": _only("rest", lambda _content: ""),
        "json.no_inputs": _only("rest", _without("inputs")),
        "json.no_shape": _only("rest", _without("inputs", -1, "shape")),
        "json.no_datatype": _only("rest", _without("inputs", -1, "datatype")),
        "json.no_data": _only("rest", _without("inputs", -1, "data")),
        "json.data_text": _only("rest", _with("1, 2, 3", "inputs", -1, "data")),
        "json.shape_text": _only("rest", _with("[1, 3]", "inputs", -1, "shape")),
        "json.shape_real": _only("rest", _with([1.5, 3], "inputs", -1, "shape")),
        "json.ragged": _only("rest", _with([[1, 2], [3]], "inputs", -1, "data")),
        "json.null": _only("rest", _with([None] * 3, "inputs", -1, "data")),
        "json.unknown_key": _only("rest", _with(1, "extra")),
        "json.id_number": _only("rest", _with(7, "id")),
    }
)


def asks(count: int = COUNT, seed: int = SEED) -> list[Ask]:
    """The requests, the same for each call."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        ask = good(rng, number)
        kinds = GOOD if rng.random() < 0.4 else WRONG
        ask.kind = rng.choice(list(kinds))
        kinds[ask.kind](rng, ask)
        made.append(ask)
    return made
