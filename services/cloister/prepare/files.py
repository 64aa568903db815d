"""Models in files of the owner's: read by OpenVINO, written as its own format."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import openvino as ov

from cloister.errors import InvalidRequest

READABLE: Final = "an OpenVINO .xml, .onnx, .pb, .tflite, .pdmodel or a TensorFlow SavedModel folder"
_SUFFIXES: Final = (".xml", ".onnx", ".pb", ".tflite", ".pdmodel")


def read_model(path: Path) -> ov.Model:
    """The model in a file or folder, in whichever format OpenVINO reads.

    Raises:
        InvalidRequest: OpenVINO does not read it, or a folder holds none or several (`model.unreadable`).
        FileNotFoundError: There is no such file.
    """
    if not path.exists():
        raise FileNotFoundError(2, "there is no such file", str(path))
    path = _lone_model(path) if path.is_dir() else path
    if path.is_file() and path.suffix not in _SUFFIXES:
        raise InvalidRequest(f"{path.name} is no model that is read here: name {READABLE}", reason="model.unreadable")
    try:
        # Mapped files would change under a model that is written back over them.
        core = ov.Core()
        core.set_property({"ENABLE_MMAP": "NO"})
        return core.read_model(path)
    except (RuntimeError, TypeError, ValueError) as error:
        why = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise InvalidRequest(
            f"OpenVINO cannot read {path.name}, which should be {READABLE}: {why[:300]}", reason="model.unreadable"
        ) from error


def _lone_model(folder: Path) -> Path:
    if (folder / "saved_model.pb").exists():
        return folder
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if len(found) != 1:
        raise InvalidRequest(
            f"{folder.name} holds {len(found)} models; name one: {READABLE}", reason="model.unreadable"
        )
    return found[0]


def write_ir(model: ov.Model, folder: Path, name: str = "model") -> dict[str, Path]:
    """Write `<name>.xml` and `<name>.bin`, weights as they are; returns the files by their names."""
    ov.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)
    return {file.name: file for file in (folder / f"{name}.xml", folder / f"{name}.bin")}


def written_bytes(model: ov.Model) -> int:
    """What a model takes on disk."""
    with tempfile.TemporaryDirectory() as folder:
        return sum(file.stat().st_size for file in write_ir(model, Path(folder)).values())


def input_names(model: ov.Model) -> list[str]:
    """By what names the model's inputs are asked for, in their order."""
    return [port_name(port) for port in model.inputs]


def port_name(port: ov.Output) -> str:
    """The name of an input or output, as workers serve it."""
    names = sorted(port.get_names())
    return names[0] if names else str(port.get_node().get_friendly_name())


def name_ports(model: ov.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give inputs and outputs these names, in their order; an empty list leaves them, and names what has none.

    Raises:
        InvalidRequest: There are more or fewer of them in the model (`shape.other`).
    """
    for side, ports, names in (("input", model.inputs, inputs), ("output", model.outputs, outputs)):
        if names and len(names) != len(ports):
            given = ", ".join(names)
            raise InvalidRequest(
                f"the model has {len(ports)} {side}s, and {len(names)} are named: {given}", reason="shape.other"
            )
        for at, port in enumerate(ports):
            if names:
                port.get_tensor().set_names({names[at]})
            elif not port.get_names():
                port.get_tensor().set_names({side if len(ports) == 1 else f"{side}_{at}"})
