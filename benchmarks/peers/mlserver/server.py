"""MLServer with a runtime of ours, in one process, which is its fastest way; gRPC without TLS, as it has none."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PEERS))

from engine import Engine
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse


class Model(MLModel):  # type: ignore[misc] # in an environment of its own
    """The model."""

    async def load(self) -> bool:
        """Compile it."""
        self._engine = Engine(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Evaluate."""
        outputs = await self._engine.answer({each.name: NumpyCodec.decode_input(each) for each in payload.inputs})
        encoded = [NumpyCodec.encode_output(name, array) for name, array in outputs.items()]
        return InferenceResponse(model_name=self.name, outputs=encoded)


async def serve(model: Path, name: str, port: int) -> None:
    """Until killed."""
    settings = Settings(
        host="127.0.0.1",
        grpc_port=port,
        http_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=0,
        debug=False,
        grpc_max_message_length=64 << 20,
        logging_settings={"version": 1, "disable_existing_loggers": True},
    )
    server = MLServer(settings)
    parameters = ModelParameters(uri=str(model))
    await server.start([ModelSettings(name=name, implementation=Model, parameters=parameters)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--port", type=int)
    parser.add_argument("--identity")
    chosen = parser.parse_args()
    asyncio.run(serve(chosen.model, chosen.name, chosen.port))
