"""KServe's gRPC client asks a gateway: kserve_grpc.py ADDRESS FOLDER NAME, in an environment of its own.

Prints one line of JSON: what it was answered, and with which status it was refused. FOLDER holds the identity's files;
NAME is the one that the gateway's certificate has.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

X = np.arange(60, dtype=np.float32).reshape(2, 30)


def request(x: np.ndarray, *, model: str = "tiny", binary: bool = True, datatype: str = "FP32") -> InferRequest:
    tensor = InferInput(name="x", shape=list(x.shape), datatype=datatype)
    tensor.set_data_from_numpy(x, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor], request_id="r-1")


async def status(call: Awaitable[Any]) -> list[str]:
    try:
        await call
    except grpc.RpcError as error:
        return [error.code().name, error.details()]
    return ["OK", ""]


async def main(address: str, folder: Path, name: str) -> dict[str, Any]:
    async with InferenceGRPCClient(
        address,
        use_ssl=True,
        root_certificates=str(folder / "roots.pem"),
        private_key=str(folder / "key.pem"),
        certificate_chain=str(folder / "certificate.pem"),
        channel_args=[("grpc.ssl_target_name_override", name)],
        timeout=20,
    ) as client:
        raw, typed = await client.infer(request(X)), await client.infer(request(X, binary=False))
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "models": [await client.is_model_ready(model) for model in ("tiny", "none")],
            "answered": [raw.model_name, raw.model_version, raw.id, [output.name for output in raw.outputs]],
            "sum": [answer.get_output_by_name("sum").as_numpy().tolist() for answer in (raw, typed)],
            "unknown": await status(client.infer(request(X, model="none"))),
            "shape": await status(client.infer(request(X[:, :3]))),
            "datatype": await status(client.infer(request(X.astype(np.int32), datatype="INT32", binary=False))),
        }


if __name__ == "__main__":
    logging.disable()  # it logs what it raises
    print(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))))
