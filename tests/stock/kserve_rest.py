"""KServe's REST client asks a gateway: kserve_rest.py ADDRESS FOLDER NAME, in an environment of its own.

Prints one line of JSON: what it was answered, and with which status it was refused. FOLDER holds the identity's files.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

X = np.arange(60, dtype=np.float32).reshape(2, 30)


def request(x: np.ndarray, *, model: str = "tiny", binary: bool = False) -> InferRequest:
    tensor = InferInput(name="x", shape=list(x.shape), datatype="FP32")
    tensor.set_data_from_numpy(x, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor], request_id="r-1")


def tls(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "roots.pem"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


async def status(call: Awaitable[Any]) -> list[Any]:
    try:
        await call
    except httpx.HTTPStatusError as error:
        return [error.response.status_code, str(error).partition(", '")[0]]
    return [200, ""]


async def main(address: str, folder: Path) -> dict[str, Any]:
    base = f"https://{address}"
    first = RESTConfig(protocol="v1", verify=tls(folder))
    async with (
        InferenceRESTClient(RESTConfig(protocol="v2", verify=tls(folder))) as client,
        InferenceRESTClient(first) as old,
    ):
        plain = await client.infer(base, request(X), model_name="tiny")
        binary = await client.infer(base, request(X, binary=True), model_name="tiny")
        predicted = await old.infer(base, {"instances": X.tolist()}, model_name="tiny")
        return {
            "live": await client.is_server_live(base),
            "ready": await client.is_server_ready(base),
            "models": [await client.is_model_ready(base, name) for name in ("tiny", "none")],
            "answered": [plain.model_name, plain.id, [output.name for output in plain.outputs]],
            "sum": [answer.get_output_by_name("sum").as_numpy().tolist() for answer in (plain, binary)],
            "predictions": len(predicted["predictions"]),
            "unknown": await status(client.infer(base, request(X, model="none"), model_name="none")),
            "shape": await status(client.infer(base, request(X[:, :3]), model_name="tiny")),
        }


if __name__ == "__main__":
    logging.disable()  # it logs what it raises
    print(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2])))))
