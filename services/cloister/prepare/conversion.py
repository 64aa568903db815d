"""Other frameworks' models to OpenVINO, and PyTorch's held against PyTorch.

What OpenVINO reads by itself (ONNX, TensorFlow, TFLite, PaddlePaddle) is read. A PyTorch model is exported first, which
runs its owner's code (`pytorch`). What comes of that is not believed: it is evaluated beside the original, on as many
rows as it was exported with and on one more, since a size that an export has quietly written down shows only on
another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import openvino as ov

from cloister.errors import InvalidRequest
from cloister.prepare import sources
from cloister.prepare.files import name_ports, read_model
from cloister.prepare.inputs import OPEN, Array, Declared
from cloister.prepare.pytorch import exported, is_program, unfit
from cloister.prepare.samples import read_arrays

TOLERANCE: Final = 1e-4
_SEED: Final = 7


class Converted(NamedTuple):
    """What came of a conversion.

    Attributes:
        difference: The largest between an output of the original and of the model, over the larger of 1 and the
            largest of that output; None where the original was not evaluated.
    """

    model: ov.Model
    difference: float | None


def convert(
    source: str,
    inputs: Sequence[Declared],
    outputs: Sequence[str] = (),
    *,
    examples: Mapping[str, Array] | None = None,
    tolerance: float = TOLERANCE,
) -> Converted:
    """Convert a model.

    Args:
        source: A file or folder; or `MODULE:FACTORY` or `FILE.py:FACTORY`, which returns a `torch.nn.Module`.
        inputs: In the order in which the model takes them. A factory needs them all; a saved program gets these names
            and shapes, and may do without; in any other format they are shapes for inputs of these names.
        outputs: Names for them, in their order.
        examples: What to evaluate a PyTorch model on, in the order of `inputs`; made up if None.
        tolerance: How far its outputs may differ.

    Raises:
        InvalidRequest: It cannot be read or exported, does not fit `inputs`, or answers otherwise than the original.
        FileNotFoundError: There is no such file.
        ImportError: PyTorch is not installed.
    """
    if source.endswith(".py"):
        raise InvalidRequest(f"say what in {source} makes the model, such as {source}:make", reason="source.unusable")
    if sources.is_factory(source) or is_program(source):
        return _from_pytorch(source, inputs, outputs, examples, tolerance)
    if examples is not None:
        raise InvalidRequest(
            "only PyTorch's models are evaluated here; leave out the example", reason="source.unusable"
        )
    model = read_model(Path(source))
    _reshape(model, inputs)
    name_ports(model, [], outputs)
    return Converted(model, None)


def read_example(path: Path, inputs: Sequence[Declared]) -> dict[str, Array]:
    """Inputs from a file, in the order in which they are declared; all that the file has if none is.

    Raises:
        InvalidRequest: The file has other arrays.
        OSError: It cannot be read.
    """
    arrays = read_arrays(path)
    names = [each.name for each in inputs] or list(arrays)
    if set(arrays) != set(names):
        has = ", ".join(sorted(arrays)) if any(arrays) else "one array without a name"
        raise InvalidRequest(f"{path.name} has {has}; declared are {', '.join(names)}", reason="calibration.unfit")
    return {name: arrays[name] for name in names}


def _from_pytorch(
    source: str,
    inputs: Sequence[Declared],
    outputs: Sequence[str],
    examples: Mapping[str, Array] | None,
    tolerance: float,
) -> Converted:
    if not inputs and not is_program(source):
        raise InvalidRequest(
            "a PyTorch model has no shapes of its own: declare each input, such as --input 'image=?x3x224x224'",
            reason="shape.missing",
        )
    tried = [examples] if examples is not None else _made_up(inputs)
    program = exported(source, inputs, tried[0] if tried else {})
    expected = [program.evaluate(example) for example in tried]
    name_ports(program.model, [each.name for each in inputs], outputs or _output_names(program.model, expected))
    _reshape(program.model, inputs)
    pairs = zip(tried, expected, strict=True)
    difference = max((_difference(program.model, *pair) for pair in pairs), default=None)
    if difference is not None and not difference <= tolerance:
        raise InvalidRequest(
            f"the converted model differs from PyTorch's by {difference:.2g}, more than {tolerance:.2g}; "
            "is it random, or does its control flow depend on sizes or values?",
            reason="conversion.differs",
        )
    return Converted(program.model, difference)


def _made_up(inputs: Sequence[Declared]) -> list[Mapping[str, Array]]:
    """Examples of the declared sizes, and of one row more where that may be."""
    more = (0, 1) if any(each.shape[:1] == (OPEN,) for each in inputs) else (0,)
    generator = np.random.default_rng(_SEED)
    return [{each.name: each.example(generator, rows) for each in inputs} for rows in more] if inputs else []


def _output_names(model: ov.Model, expected: Sequence[Mapping[str, Array]]) -> list[str]:
    """Those that the module itself gives them; the exporter's own change from one release to the next."""
    names, count = list(expected[0]) if expected else [], len(model.outputs)
    if len(names) != count or any(name.isdigit() for name in names):
        return ["output"] if count == 1 else [f"output_{at}" for at in range(count)]
    return names


def _reshape(model: ov.Model, inputs: Sequence[Declared]) -> None:
    """Give a model's inputs the shapes that its owner wants, by their names."""
    known = {name for port in model.inputs for name in port.get_names()}
    for each in inputs:
        if each.name not in known:
            has = ", ".join(sorted(known))
            raise InvalidRequest(f"the model has no input '{each.name}'; it has {has}", reason="shape.other")
    try:
        model.reshape({each.name: ov.PartialShape(list(each.shape)) for each in inputs})
    except RuntimeError as error:
        raise unfit("the model does not take these shapes", error) from error


def _difference(model: ov.Model, example: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    try:
        found = ov.Core().compile_model(model, "CPU", config).create_infer_request().infer(list(example.values()))
    except (RuntimeError, TypeError) as error:
        raise unfit("the converted model does not take these inputs", error) from error
    ours, theirs = [found[port] for port in found], list(expected.values())
    if [array.shape for array in ours] != [array.shape for array in theirs]:
        raise InvalidRequest("the converted model has other outputs than PyTorch's", reason="conversion.differs")
    return max((_largest(*pair) for pair in zip(ours, theirs, strict=True)), default=0.0)


def _largest(ours: Array, theirs: Array) -> float:
    if not theirs.size:
        return 0.0
    exact = theirs.astype(np.float64)
    apart = np.abs(ours.astype(np.float64) - exact).max() / max(1.0, float(np.abs(exact).max()))
    return float(apart) if np.isfinite(apart) else float("inf")
