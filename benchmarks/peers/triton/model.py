"""What Triton's Python back end runs; copied into the model repository by `server.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import triton_python_backend_utils as triton

sys.path.insert(0, os.environ["BENCH_PEERS"])  # the back end makes a PYTHONPATH of its own

from engine import Engine


class TritonPythonModel:
    """The model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compile it."""
        self._engine = Engine(Path(os.environ["BENCH_MODEL"]), parallel=False)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Evaluate the requests that wait."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        outputs = self._engine.infer({tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
        return triton.InferenceResponse([triton.Tensor(name, array) for name, array in outputs.items()])
