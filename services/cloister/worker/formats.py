"""Which files make a model, and how each format becomes a graph of OpenVINO's, with the names that its users know.

Each format is looked through first (`scan`, and its like for the others), then read from memory: from its bytes where
OpenVINO takes bytes, else from a folder in memory. Of several files only those that belong to the model are handed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

import openvino as ov

from cloister.worker.memory_folder import laid_out
from cloister.worker.paddle_scan import scan_paddle
from cloister.worker.refusals import refused
from cloister.worker.scan import scan_ir, scan_onnx
from cloister.worker.tensorflow_scan import VARIABLES, scan_frozen_graph, scan_saved_model
from cloister.worker.tensorflow_variables import scan_variables
from cloister.worker.tflite_scan import scan_tflite
from cloister.worker.weights import tensor_of

SAVED_MODEL: Final = "saved_model.pb"
_BESIDE: Final = frozenset({"fingerprint.pb", "keras_metadata.pb"})
"""What TensorFlow and Keras put beside a SavedModel's graph."""
Files = Mapping[str, memoryview]

_UNKNOWN: Final = re.compile(r"(?:rule found for operations:|[Cc]reator found for|ranslator found for) ([\w, ]{1,200})")


def read_model(files: Files) -> tuple[ov.Model, int]:
    """The model in these files, and how many bytes of weights it may have.

    Args:
        files: By relative name. A `.xml` and the `.bin` beside it, an `.onnx`, a `.tflite`, a `.pdmodel` and the
            `.pdiparams` beside it, a frozen graph as `.pb`, or a SavedModel's folder. Others may lie beside them.

    Raises:
        InvalidRequest: There is no model here, more than one, or one that is refused (`model.refused`).
        NotReady: The format needs a folder in memory, and there is none.
    """
    heads = [path for name in files if (path := PurePosixPath(name)).suffix in _READERS and path.name not in _BESIDE]
    if len(heads) != 1:
        raise refused(_instead(files) if not heads else "it holds more than one model")
    (head,) = heads
    core = ov.Core()
    core.set_property({"ENABLE_MMAP": "NO"})
    return _READERS[head.suffix](core, files, head)


def _read_ir(core: ov.Core, files: Files, head: PurePosixPath) -> tuple[ov.Model, int]:
    xml, weights = bytes(files[str(head)]), files.get(str(head.with_suffix(".bin")), memoryview(b""))
    scan_ir(xml, len(weights))
    return _parsed(core, xml.decode(), tensor_of(weights)), len(weights)


def _read_onnx(core: ov.Core, files: Files, head: PurePosixPath) -> tuple[ov.Model, int]:
    raw = files[str(head)]
    scan_onnx(raw)
    return _parsed(core, bytes(raw), b""), len(raw)


def _read_paddle(core: ov.Core, files: Files, head: PurePosixPath) -> tuple[ov.Model, int]:
    program, weights = files[str(head)], files.get(str(head.with_suffix(".pdiparams")), memoryview(b""))
    scan_paddle(program, weights)
    return _parsed(core, bytes(program), bytes(weights)), len(weights)


def _read_tflite(core: ov.Core, files: Files, head: PurePosixPath) -> tuple[ov.Model, int]:
    raw = files[str(head)]
    names = scan_tflite(raw)
    with laid_out({"model.tflite": raw}) as folder:
        model = _parsed(core, str(folder / "model.tflite"))
    _rename(model, lambda name: names.get(name, name))
    return model, len(raw)


def _read_tensorflow(core: ov.Core, files: Files, head: PurePosixPath) -> tuple[ov.Model, int]:
    if head.name == SAVED_MODEL:
        return _read_saved_model(core, files, head)
    raw = files[str(head)]
    scan_frozen_graph(raw)
    with laid_out({"model.pb": raw}) as folder:
        model = _parsed(core, str(folder / "model.pb"))
    _rename(model, lambda name: name.removesuffix(":0"))
    return model, len(raw)


def _read_saved_model(core: ov.Core, files: Files, head: PurePosixPath) -> tuple[ov.Model, int]:
    scan_saved_model(files[str(head)])
    inside = {name: path for name in files if (path := _relative(name, head.parent)) and VARIABLES.fullmatch(path)}
    parts = {SAVED_MODEL: files[str(head)], **{path: files[name] for name, path in inside.items()}}
    scan_variables(parts)
    with laid_out(parts) as folder:
        model = _parsed(core, str(folder))
    return model, sum(len(content) for content in parts.values())


_READERS: Final[Mapping[str, Callable[[ov.Core, Files, PurePosixPath], tuple[ov.Model, int]]]] = MappingProxyType(
    {
        ".xml": _read_ir,
        ".onnx": _read_onnx,
        ".pb": _read_tensorflow,
        ".pdmodel": _read_paddle,
        ".tflite": _read_tflite,
    }
)
_INSTEAD: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys((".keras", ".h5"), "Keras's own file; export it as a SavedModel: model.export(folder)"),
        **dict.fromkeys((".pt", ".pth", ".pt2", ".safetensors"), "PyTorch's; convert it to OpenVINO IR or ONNX"),
        **dict.fromkeys((".pbtxt", ".meta", ".ckpt"), "a TensorFlow graph in text or in parts; export a SavedModel"),
        ".pdiparams": "PaddlePaddle's weights without a .pdmodel; save it with FLAGS_enable_pir_api=0",
    }
)


def _instead(files: Files) -> str:
    found = (_INSTEAD[suffix] for name in files if (suffix := PurePosixPath(name).suffix) in _INSTEAD)
    why = next(found, None)
    return f"it is {why}" if why else f"it holds no {', '.join(_READERS)} file"


def _relative(name: str, folder: PurePosixPath) -> str:
    path = PurePosixPath(name)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else ""


def _rename(model: ov.Model, known: Callable[[str], str]) -> None:
    """Give each tensor that is taken or given the one name that its users know it by."""
    for port in (*model.inputs, *model.outputs):
        names = sorted(known(name) for name in port.get_names())
        if names:
            port.get_tensor().set_names({names[0]})


def _parsed(core: ov.Core, head: str | bytes, weights: ov.Tensor | bytes | None = None) -> ov.Model:
    try:
        return core.read_model(head) if weights is None else core.read_model(head, weights)
    except (RuntimeError, TypeError, ValueError) as error:
        unknown = _UNKNOWN.search(str(error))
        why = f", for want of {unknown[1].strip()}" if unknown else ""
        raise refused(f"OpenVINO cannot read it{why}") from None
