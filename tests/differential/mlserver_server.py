"""MLServer with the models of `asks`, until killed: mlserver_server.py GRPC_PORT HTTP_PORT, in its own environment.

A runtime as its guide writes one: inputs are decoded by name, computed with, and encoded. What MLServer itself makes of
a request is left as it is; what a runtime cannot go on with is its `InferenceError`.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor

ECHOED = ("BOOL", "UINT8", "INT32", "INT64", "FP16", "FP32", "FP64")


class Runtime(MLModel):  # type: ignore[misc]  # in an environment of its own
    """All of them; which one it is its metadata say."""

    async def load(self) -> bool:
        """There is nothing to load."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Decode, compute, encode what was asked for."""
        arrays = {each.name: NumpyCodec.decode_input(each) for each in payload.inputs}
        for wanted in self.inputs:
            if wanted.name not in arrays:
                raise InferenceError(f"the input {wanted.name} is missing")
        if "x" in arrays:
            made = {"y": arrays["x"]}
        else:
            a, b = arrays["a"], arrays["b"]
            made = {"sum": (a.sum(1, keepdims=True) + b.sum(1, keepdims=True)).astype(np.float32), "double": b + b}
        names = [each.name for each in payload.outputs] if payload.outputs else list(made)
        if unknown := [name for name in names if name not in made]:
            raise InferenceError(f"there is no output {unknown[0]}")
        outputs = [NumpyCodec.encode_output(name, made[name]) for name in names]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def settings(name: str, inputs: dict[str, str], outputs: dict[str, str]) -> ModelSettings:
    """One model, in version 1."""
    return ModelSettings(
        name=name,
        implementation=Runtime,
        parameters=ModelParameters(version="1"),
        inputs=[MetadataTensor(name=each, datatype=datatype, shape=[-1, 3]) for each, datatype in inputs.items()],
        outputs=[MetadataTensor(name=each, datatype=datatype, shape=[-1]) for each, datatype in outputs.items()],
    )


async def serve(grpc_port: int, http_port: int) -> None:
    """Until killed."""
    server = MLServer(
        Settings(
            host="127.0.0.1",
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_endpoint=None,
            parallel_workers=0,
            debug=False,
            logging_settings={"version": 1, "disable_existing_loggers": True},
        )
    )
    models = [settings(f"echo-{each.lower()}", {"x": each}, {"y": each}) for each in ECHOED]
    models.append(settings("mix", {"a": "FP32", "b": "INT64"}, {"sum": "FP32", "double": "INT64"}))
    await server.start(models)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
