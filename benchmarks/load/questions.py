"""The requests that a load asks, as bytes that are made once, and the answers as arrays.

Carried through a folder: `question-<n>.npz` are the inputs, `answers-<n>.npz` what came back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.oip.tensors import encode_request

Arrays = dict[str, NDArray[Any]]


def rest(model: str, inputs: Sequence[Arrays], how: str) -> list[bytes]:
    """Whole HTTP requests of the protocol's REST form; `how` ends in JSON or binary, as tensors go both ways."""
    return [_rest(model, encode_request(model, each), binary=how.endswith("binary"), arrays=each) for each in inputs]


def _rest(model: str, request: ModelInferRequest, *, binary: bool, arrays: Arrays) -> bytes:
    tensors: list[dict[str, Any]] = []
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        head: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        contents = (
            {"parameters": {"binary_data_size": len(raw)}} if binary else {"data": arrays[tensor.name].ravel().tolist()}
        )
        tensors.append({**head, **contents})
    text = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": binary}}).encode()
    body = text + b"".join(request.raw_input_contents if binary else ())
    length = f"Inference-Header-Content-Length: {len(text)}\r\n" if binary else "Content-Type: application/json\r\n"
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: mesh\r\n{length}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def write(folder: Path, questions: Sequence[Arrays]) -> None:
    """Keep the inputs where a load finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, inputs in enumerate(questions):
        save(folder / f"question-{number}.npz", inputs)


def read(folder: Path) -> list[Arrays]:
    """What `write` kept."""
    count = len(list(folder.glob("question-*.npz")))
    return [load(folder / f"question-{number}.npz") for number in range(count)]


def save(path: Path, arrays: Arrays) -> None:
    """One set of named arrays."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(path: Path) -> Arrays:
    """What `save` kept."""
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def oip(model: str, inputs: Arrays, version: str = "") -> bytes:
    """A serialised ModelInferRequest."""
    return encode_request(model, inputs, version=version).SerializeToString()


def difference(answer: Arrays, expected: Arrays) -> float:
    """The largest difference from what was expected, as a share of the largest number expected.

    Raises:
        ValueError: Other outputs, or of other shapes.
    """
    if {name: array.shape for name, array in answer.items()} != {name: a.shape for name, a in expected.items()}:
        raise ValueError(f"answered {sorted(answer)} in place of {sorted(expected)}, or in other shapes")
    return max(
        float(np.max(np.abs(answer[name] - array)) / max(float(np.max(np.abs(array))), 1e-30))
        for name, array in expected.items()
    )
