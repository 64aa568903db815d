"""PyTorch's models, exported by PyTorch and converted by OpenVINO. This runs their owner's code."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov

from cloister.errors import InvalidRequest
from cloister.prepare import sources
from cloister.prepare.inputs import OPEN, Array, Declared

_SUFFIXES: Final = (".pt2", ".pt", ".pth", ".ts")
_MOST_SAID: Final = 400


@dataclass(frozen=True, slots=True)
class Program:
    """A model, and what it was made of.

    Attributes:
        original: Takes and gives PyTorch's tensors.
    """

    model: ov.Model
    original: Callable[..., Any]

    def evaluate(self, example: Mapping[str, Array]) -> dict[str, Array]:
        """What PyTorch answers; by name where the module gives its outputs names, else by number.

        Raises:
            InvalidRequest: It does not take these inputs (`shape.other`).
        """
        import torch

        try:
            with _unbothered(), torch.no_grad():
                return dict(_flat(self.original(*_tensors(example))))
        except Exception as error:  # the owner's code, and guards that an exporter has put into it
            raise unfit("the model does not take these inputs, or was exported for other sizes", error) from error


def is_program(source: str) -> bool:
    """Whether this is called like a file in which PyTorch has saved a program."""
    return Path(source).suffix in _SUFFIXES


def exported(source: str, inputs: Sequence[Declared], example: Mapping[str, Array]) -> Program:
    """Export and convert.

    Args:
        source: A factory of a `torch.nn.Module`, or a file that `is_program`.
        inputs: In their order.
        example: To export a module with.

    Raises:
        InvalidRequest: The code does not make a module, or that cannot be exported (`source.unusable`); the file holds
            no program, or OpenVINO cannot convert it (`model.unreadable`).
        ImportError: PyTorch is not installed.
    """
    with _unbothered():
        if is_program(source):
            return _loaded(Path(source), inputs)
        return _made(source, inputs, example)


def unfit(what: str, error: BaseException) -> InvalidRequest:
    """What to raise where inputs and a model do not go together."""
    return InvalidRequest(f"{what}: {_said(error)}", reason="shape.other")


def _made(source: str, inputs: Sequence[Declared], example: Mapping[str, Array]) -> Program:
    import torch

    module = sources.made(source)
    if not isinstance(module, torch.nn.Module):
        raise InvalidRequest(
            f"'{source}' makes a {type(module).__name__}, and no torch.nn.Module", reason="source.unusable"
        )
    module.eval()
    # An axis that the code turns out to need a size of is an error, and not quietly that size.
    open_axes = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(each.shape) if size == OPEN} for each in inputs
    )
    try:
        program = torch.export.export(module, _tensors(example), dynamic_shapes=open_axes)
    except Exception as error:  # the exporter raises what the owner's code does, and much of its own
        raise InvalidRequest(
            f"PyTorch cannot export it with these shapes: {type(error).__name__}: {_said(error)}",
            reason="source.unusable",
        ) from error
    return Program(_converted(program), module)


def _loaded(path: Path, inputs: Sequence[Declared]) -> Program:
    """A program that `torch.export` or TorchScript has saved. Neither is a pickle of code."""
    import torch

    if not path.exists():
        raise FileNotFoundError(2, "there is no such file", str(path))
    try:
        saved = torch.export.load(path) if path.suffix == ".pt2" else torch.jit.load(path, map_location="cpu").eval()
    except Exception as error:  # neither loader says what it raises
        raise InvalidRequest(
            f"{path.name} is no program that PyTorch loads: {_said(error)}; of a checkpoint of weights make one, "
            "or name the factory of its module, such as network.py:make",
            reason="model.unreadable",
        ) from error
    if path.suffix == ".pt2":
        return Program(_converted(saved), saved.module())
    shapes = [(ov.PartialShape(list(each.shape)), _element_type(each)) for each in inputs]
    return Program(_converted(saved, **({"input": shapes} if shapes else {})), saved)


def _converted(program: Any, **options: Any) -> ov.Model:
    try:
        return ov.convert_model(program, **options)
    except ImportError:
        raise
    except Exception as error:  # a converter in Python over one in C++
        raise InvalidRequest(f"OpenVINO cannot convert it: {_said(error)}", reason="model.unreadable") from error


def _tensors(example: Mapping[str, Array]) -> tuple[Any, ...]:
    import torch

    return tuple(torch.from_numpy(array.copy()) for array in example.values())


def _flat(outputs: Any, name: str = "") -> Iterator[tuple[str, Array]]:
    """The tensors that a module returns, however it groups them, and what it calls them."""
    if hasattr(outputs, "detach"):
        yield name or "0", np.asarray(outputs.detach())
        return
    parts = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs)
    for key, part in parts:
        yield from _flat(part, f"{name}.{key}" if name else str(key))


def _element_type(each: Declared) -> ov.Type:
    return ov.Type(each.example(np.random.default_rng(0)).dtype)


@contextmanager
def _unbothered() -> Iterator[None]:
    """What PyTorch deprecates is for those who call it, and here that is its own exporter."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        yield


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:_MOST_SAID]
