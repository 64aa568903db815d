"""KServe's clients ask an InferenceService: kserve_predictor.py HOST IDENTITY RECORD.json, in its own environment.

Prints one line of JSON: the outputs by REST (port 8441) and by gRPC (8440). IDENTITY is the folder of a client's
identity; RECORD holds an input by its name.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import sys
from pathlib import Path
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig

MODEL = "breast-cancer"


def request(record: Path) -> InferRequest:
    ((name, rows),) = json.loads(record.read_text()).items()
    values = np.array(rows, np.float32)
    tensor = InferInput(name=name, shape=list(values.shape), datatype="FP32")
    tensor.set_data_from_numpy(values, binary_data=False)
    return InferRequest(model_name=MODEL, infer_inputs=[tensor])


def outputs(answer: InferResponse) -> dict[str, Any]:
    return {output.name: output.as_numpy().tolist() for output in answer.outputs}


async def main(host: str, identity: Path, record: Path) -> dict[str, Any]:
    files = {name: identity / f"{name}.pem" for name in ("certificate", "private_key", "trust_roots")}
    context = ssl.create_default_context(cafile=str(files["trust_roots"]))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(files["certificate"], files["private_key"])
    async with InferenceRESTClient(RESTConfig(protocol="v2", verify=context)) as rest:
        by_rest = await rest.infer(f"https://{host}:8441", request(record), model_name=MODEL)
    async with InferenceGRPCClient(
        f"{host}:8440",
        use_ssl=True,
        root_certificates=str(files["trust_roots"]),
        private_key=str(files["private_key"]),
        certificate_chain=str(files["certificate"]),
        timeout=20,
    ) as grpc:
        by_grpc = await grpc.infer(request(record))
    return {"rest": outputs(by_rest), "grpc": outputs(by_grpc)}


if __name__ == "__main__":
    logging.disable()  # it logs what it raises
    print(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))))
