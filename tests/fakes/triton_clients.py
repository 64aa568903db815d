"""Triton's gRPC clients, and what they are given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from cloister.rpc.spiffe import server_name
from fakes.networks import FEATURES
from fakes.running_gateway import Rig
from fakes.serving_mesh import stock_client

X = np.arange(2 * FEATURES, dtype=np.float32).reshape(2, FEATURES)


def tensors(x: np.ndarray = X) -> list[triton.InferInput]:
    given = triton.InferInput("x", list(x.shape), "FP32")
    given.set_data_from_numpy(x)
    return [given]


def held(content: bytes = b"abc") -> list[triton.InferInput]:
    given = triton.InferInput("x", [len(content)], "UINT8")
    given.set_data_from_numpy(np.frombuffer(content, np.uint8))
    return [given]


async def with_client(rig: Rig, folder: Path, use: Callable[[triton.InferenceServerClient], Any]) -> Any:
    """What `use` makes of a blocking client, off the loop that the gateway runs on."""

    def run() -> Any:
        with stock_client(rig, folder) as client:
            return use(client)

    return await asyncio.to_thread(run)


@asynccontextmanager
async def aio_client(rig: Rig, folder: Path) -> AsyncIterator[triton_aio.InferenceServerClient]:
    files = rig.pki.identity("client", "ann").write(folder)
    async with triton_aio.InferenceServerClient(
        f"127.0.0.1:{rig.port}",
        ssl=True,
        root_certificates=str(files.trust_roots),
        private_key=str(files.private_key),
        certificate_chain=str(files.certificate),
        channel_args=[("grpc.ssl_target_name_override", server_name(rig.pki.cluster, "gateway"))],
    ) as client:
        yield client


def refused(ask: Callable[[], Any]) -> tuple[str, str]:
    """Status and message of the error that Triton's users catch."""
    with pytest.raises(triton.InferenceServerException) as caught:
        ask()
    return str(caught.value.status()).removeprefix("StatusCode."), str(caught.value.message())
