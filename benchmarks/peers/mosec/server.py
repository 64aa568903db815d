"""Mosec: the tensor's bytes over HTTP, without TLS; its front is Rust, its worker is a Python process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PEERS))

import numpy as np
from engine import Engine
from mosec import Server, Worker


class Model(Worker):  # type: ignore[misc] # in an environment of its own
    """The model; one input after the other in one body."""

    def __init__(self) -> None:
        self._engine = Engine(Path(os.environ["BENCH_MODEL"]), parallel=False)

    def deserialize(self, data: bytes) -> dict[str, Any]:
        """Bytes to arrays of batch one."""
        found, at = {}, 0
        for name, (dtype, shape) in self._engine.inputs.items():
            count = int(np.prod(shape[1:]))
            found[name] = np.frombuffer(data, dtype, count, at).reshape([1, *shape[1:]])
            at += found[name].nbytes
        return found

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        """Evaluate."""
        return self._engine.infer(data)

    def serialize(self, data: dict[str, Any]) -> bytes:
        """Arrays to bytes."""
        return b"".join(array.tobytes() for array in data.values())


if __name__ == "__main__":
    server = Server()
    server.append_worker(Model)
    server.run()
