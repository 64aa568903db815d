"""A bare grpc.aio server of the Open Inference Protocol under mutual TLS: what anybody would write in an afternoon."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PEERS), str(PEERS.parents[1] / "services")]

import grpc
import numpy as np
import uvloop
from engine import Engine

from cloister.api.oip import inference_pb2 as oip
from cloister.api.oip import inference_pb2_grpc

DATATYPES = {"FP32": np.float32, "INT64": np.int64, "UINT8": np.uint8}
NAMES = {np.dtype(dtype): name for name, dtype in DATATYPES.items()}
LIMITS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


class Servicer(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """The two calls that infer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """One request."""
        return await self._answer(request)

    async def ModelStreamInfer(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """One request after the other."""
        async for request in request_iterator:
            yield oip.ModelStreamInferResponse(infer_response=await self._answer(request))

    async def _answer(self, request: Any) -> Any:
        inputs = {
            tensor.name: np.frombuffer(raw, DATATYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        response = oip.ModelInferResponse(model_name=request.model_name, id=request.id)
        for name, array in (await self._engine.answer(inputs)).items():
            response.outputs.add(name=name, datatype=NAMES[array.dtype], shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response


async def serve(xml: Path, port: int, identity: Path) -> None:
    """Until killed."""
    server = grpc.aio.server(options=LIMITS)
    inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(Engine(xml)), server)
    roots, key, chain = (
        (identity / f"{name}.pem").read_bytes() for name in ("trust_roots", "private_key", "certificate")
    )
    credentials = grpc.ssl_server_credentials([(key, chain)], root_certificates=roots, require_client_auth=True)
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--port", type=int)
    parser.add_argument("--identity", type=Path)
    chosen = parser.parse_args()
    uvloop.install()
    asyncio.run(serve(chosen.model, chosen.port, chosen.identity))
