"""What a running server answers to all requests, over gRPC and over REST."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import grpc
import grpc.aio

from cloister.api.oip.inference_pb2 import ModelInferResponse
from differential.answers import Told, of_grpc, of_refusal, of_rest
from differential.asks import Ask
from differential.forms import grpc_form, rest_form

INFER = "/inference.GRPCInferenceService/ModelInfer"
AT_ONCE = 8

Post = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]
"""Path and body to status and body."""


async def over_grpc(channel: grpc.aio.Channel, asks: Iterable[Ask]) -> dict[int, Told]:
    """By number; what only REST can say is left out."""
    call = channel.unary_unary(INFER)

    async def one(ask: Ask) -> Told:
        try:
            return of_grpc(ModelInferResponse.FromString(await call(grpc_form(ask), timeout=20)))
        except grpc.aio.AioRpcError as error:
            return of_refusal(error)

    return await _all(one, [ask for ask in asks if ask.carrier != "rest"])


async def over_rest(post: Post, asks: Iterable[Ask]) -> dict[int, Told]:
    """By number; what only gRPC can say is left out."""

    async def one(ask: Ask) -> Told:
        return of_rest(*await post(*rest_form(ask)))

    return await _all(one, [ask for ask in asks if ask.carrier != "grpc"])


async def _all(one: Callable[[Ask], Awaitable[Told]], asks: Iterable[Ask]) -> dict[int, Told]:
    told: dict[int, Told] = {}
    left = iter(asks)

    async def worker() -> None:
        for ask in left:
            told[ask.number] = await one(ask)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return dict(sorted(told.items()))
