"""KServe's Python server with a model of ours, one process; gRPC without TLS, as it has none."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PEERS))

from engine import Engine
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.numpy_codec import from_np_dtype


class Served(Model):  # type: ignore[misc] # in an environment of its own
    """The model."""

    def __init__(self, name: str, xml: Path) -> None:
        super().__init__(name)
        self._engine = Engine(xml)
        self.ready = True

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        """Evaluate."""
        outputs = await self._engine.answer({each.name: each.as_numpy() for each in payload.inputs})
        encoded = []
        for name, array in outputs.items():
            output = InferOutput(name=name, shape=list(array.shape), datatype=from_np_dtype(array.dtype))
            output.set_data_from_numpy(array, binary_data=True)
            encoded.append(output)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=encoded)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--port", type=int)
    parser.add_argument("--identity")
    chosen = parser.parse_args()
    logging.disable(logging.INFO)
    server = ModelServer(http_port=chosen.port + 1, grpc_port=chosen.port, workers=1, enable_latency_logging=False)
    server.start([Served(chosen.name, chosen.model)])
