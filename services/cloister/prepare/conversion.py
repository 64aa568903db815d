"""Other frameworks' models to OpenVINO, and PyTorch's held against PyTorch.

What OpenVINO reads by itself (ONNX, TensorFlow, TFLite, PaddlePaddle) is read. A PyTorch model is exported first, which
runs its owner's code. What comes of that is not believed: it is evaluated beside the original, on as many rows as it
was exported with and on one more, since a size that an export has quietly written down shows only on another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import openvino as ov

from cloister.errors import InvalidRequest
from cloister.prepare import sources
from cloister.prepare.files import name_ports, read_model
from cloister.prepare.inputs import OPEN, Array, Declared
from cloister.prepare.samples import read_arrays

TOLERANCE: Final = 1e-4
TORCH_SUFFIXES: Final = (".pt2", ".pt", ".pth", ".ts")
_SEED: Final = 7


class Converted(NamedTuple):
    """What came of a conversion.

    Attributes:
        difference: The largest between an output of the original and of the model, over the larger of 1 and the
            largest of that output; None where nothing here evaluates the original.
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
        inputs: In the order in which the model takes them. A factory needs them; for all else they are new names and
            shapes, and may be left out.
        outputs: Names for them, in their order.
        examples: What to evaluate a PyTorch model on; made up if None.
        tolerance: How far its outputs may differ.

    Raises:
        InvalidRequest: It cannot be read or exported, does not fit `inputs`, or answers otherwise than the original.
        ImportError: PyTorch is not installed.
    """
    is_factory = sources.is_factory(source)
    if source.endswith(".py"):
        raise InvalidRequest(f"say what in {source} makes the model, such as {source}:make", reason="source.unusable")
    if not is_factory and Path(source).suffix not in TORCH_SUFFIXES:
        model = read_model(Path(source))
        _reshape(model, inputs)
        name_ports(model, [], outputs)
        return Converted(model, None)
    tried = [examples] if examples is not None else _made_up(inputs)
    if is_factory and not inputs:
        raise InvalidRequest(
            "a PyTorch model has no shapes of its own: declare each input, such as --input image=?x3x224x224",
            reason="shape.missing",
        )
    with _unbothered():
        original, model = _from_factory(source, inputs, tried[0]) if is_factory else _from_file(Path(source), inputs)
        expected = [_evaluated(original, example) for example in tried]
    name_ports(model, [each.name for each in inputs], outputs or _output_names(model, expected))
    _reshape(model, inputs)
    if not tried:
        return Converted(model, None)
    difference = max(_difference(model, *pair) for pair in zip(tried, expected, strict=True))
    if not difference <= tolerance:
        raise InvalidRequest(
            f"the converted model differs from PyTorch's by {difference:.2g}, more than {tolerance:.2g}; "
            "is it random, in training mode, or does its control flow depend on sizes or values?",
            reason="conversion.differs",
        )
    return Converted(model, difference)


def read_example(path: Path, inputs: Sequence[Declared]) -> dict[str, Array]:
    """Inputs from a file, in the order in which they are declared; all that the file has if none is.

    Raises:
        InvalidRequest: The file has other arrays.
    """
    arrays = read_arrays(path)
    names = [each.name for each in inputs] or list(arrays)
    if set(arrays) != set(names):
        has = ", ".join(sorted(arrays)) if any(arrays) else "one array without a name"
        raise InvalidRequest(f"{path.name} has {has}; declared are {', '.join(names)}", reason="calibration.unfit")
    return {name: arrays[name] for name in names}


def _made_up(inputs: Sequence[Declared]) -> list[dict[str, Array]]:
    """Examples of the declared sizes, and of one row more where that may be."""
    more = (0, 1) if any(each.shape[:1] == (OPEN,) for each in inputs) else (0,)
    generator = np.random.default_rng(_SEED)
    return [{each.name: each.example(generator, rows) for each in inputs} for rows in more] if inputs else []


def _from_factory(
    source: str, inputs: Sequence[Declared], example: Mapping[str, Array]
) -> tuple[Callable[..., Any], ov.Model]:
    import torch

    module = sources.made(source)
    if not isinstance(module, torch.nn.Module):
        raise InvalidRequest(
            f"'{source}' makes a {type(module).__name__}, and no torch.nn.Module", reason="source.unusable"
        )
    module.eval()
    open_axes = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(each.shape) if size == OPEN} for each in inputs
    )
    try:
        exported = torch.export.export(module, _tensors(example), dynamic_shapes=open_axes)
    except Exception as error:  # the exporter raises what the owner's code does, and much of its own
        raise InvalidRequest(
            f"PyTorch cannot export it with these shapes: {type(error).__name__}: {_first_lines(error)}",
            reason="source.unusable",
        ) from error
    return module, _converted(exported)


def _from_file(path: Path, inputs: Sequence[Declared]) -> tuple[Callable[..., Any], ov.Model]:
    """A program that `torch.export` or TorchScript has saved. Neither is a pickle of code."""
    import torch

    if not path.exists():
        raise FileNotFoundError(2, "there is no such file", str(path))
    try:
        if path.suffix == ".pt2":
            exported = torch.export.load(path)
            return exported.module(), _converted(exported)
        script = torch.jit.load(path, map_location="cpu").eval()
    except InvalidRequest:
        raise
    except Exception as error:
        raise InvalidRequest(
            f"{path.name} is no program that PyTorch loads: {_first_lines(error)}; of a checkpoint of weights "
            "make one, or name the factory of its module, such as network.py:make",
            reason="model.unreadable",
        ) from error
    shapes = [(ov.PartialShape(list(each.shape)), _element_type(each)) for each in inputs]
    return script, _converted(script, input=shapes) if shapes else _converted(script)


def _converted(program: Any, **options: Any) -> ov.Model:
    try:
        return ov.convert_model(program, **options)
    except ImportError:
        raise
    except Exception as error:
        raise InvalidRequest(f"OpenVINO cannot convert it: {_first_lines(error)}", reason="model.unreadable") from error


def _reshape(model: ov.Model, inputs: Sequence[Declared]) -> None:
    """Give a model's inputs the shapes that its owner wants, by their names."""
    known = {name: port for port in model.inputs for name in port.get_names()}
    for each in inputs:
        if each.name not in known:
            raise InvalidRequest(
                f"the model has no input '{each.name}'; it has {', '.join(sorted(known))}", reason="shape.other"
            )
    try:
        model.reshape({each.name: ov.PartialShape(list(each.shape)) for each in inputs})
    except RuntimeError as error:
        raise InvalidRequest(
            f"the model does not take these shapes: {_first_lines(error)}", reason="shape.other"
        ) from error


def _evaluated(original: Callable[..., Any], example: Mapping[str, Array]) -> dict[str, Array]:
    """What PyTorch answers; by name where the module gives its outputs names, else by number."""
    import torch

    try:
        with torch.no_grad():
            return dict(_flat(original(*_tensors(example))))
    except Exception as error:  # the owner's code, and guards that an exporter has put into it
        raise _unfit(error) from error


def _output_names(model: ov.Model, expected: Sequence[Mapping[str, Array]]) -> list[str]:
    """Those that the module itself gives them; the exporter's own change from one release to the next."""
    names = list(expected[0]) if expected else []
    if len(names) != len(model.outputs) or any(name.isdigit() for name in names):
        count = len(model.outputs)
        return ["output"] if count == 1 else [f"output_{at}" for at in range(count)]
    return names


def _difference(model: ov.Model, example: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    try:
        found = ov.Core().compile_model(model, "CPU", config).create_infer_request().infer(list(example.values()))
    except (RuntimeError, TypeError) as error:
        raise _unfit(error) from error
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


def _tensors(example: Mapping[str, Array]) -> tuple[Any, ...]:
    import torch

    return tuple(torch.from_numpy(array.copy()) for array in example.values())


def _flat(outputs: Any, name: str = "0") -> Iterator[tuple[str, Array]]:
    """The tensors that a module returns, however it groups them, and what it calls them."""
    if hasattr(outputs, "detach"):
        yield name, np.asarray(outputs.detach())
        return
    parts = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs)
    for key, part in parts:
        yield from _flat(part, str(key) if name == "0" else f"{name}.{key}")


@contextmanager
def _unbothered() -> Iterator[None]:
    """What PyTorch deprecates is for those who call it, and here that is its own exporter."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        yield


def _unfit(error: BaseException) -> InvalidRequest:
    return InvalidRequest(
        f"the inputs do not fit the model, or only in the sizes it was exported with: {_first_lines(error)}",
        reason="shape.other",
    )


def _element_type(each: Declared) -> ov.Type:
    return ov.Type(each.example(np.random.default_rng(0)).dtype)


def _first_lines(error: BaseException) -> str:
    return " ".join(" ".join(str(error).split())[:400].split())
