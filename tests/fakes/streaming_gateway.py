"""The gateway of `serving` with streams: answers come in the order of the requests, errors as items."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc.aio import EOF

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelStreamInferResponse
from cloister.client.carriers import ERROR_PARAMETER, REASON_PARAMETER, SERVER_TIMING, TIMING_PARAMETER
from cloister.errors import CloisterError, Unavailable
from fakes.serving import FakeGateway


class FakeStream:
    """One ModelStreamInfer."""

    def __init__(self, gateway: StreamingGateway, *, timed: bool) -> None:
        self._gateway = gateway
        self._timed = timed
        self._answers: asyncio.Queue[Any] = asyncio.Queue()

    async def write(self, message: ModelInferRequest | bytes) -> None:
        request = ModelInferRequest.FromString(message) if isinstance(message, bytes) else message
        item = ModelStreamInferResponse()
        try:
            item.infer_response.CopyFrom(await self._gateway.ModelInfer(request, timeout=1.0))
            for _, line in self._gateway.trailers if self._timed else ():
                item.infer_response.parameters[TIMING_PARAMETER].string_param = line
        except CloisterError as error:
            item.error_message = str(error)
            item.infer_response.parameters[ERROR_PARAMETER].string_param = type(error).__name__
            item.infer_response.parameters[REASON_PARAMETER].string_param = error.reason
        self._answers.put_nowait(item)

    async def read(self) -> Any:
        item = await self._answers.get()
        if isinstance(item, CloisterError):
            raise item
        return item.SerializeToString() if isinstance(item, ModelStreamInferResponse) else item

    def cancel(self) -> None:
        self._answers.put_nowait(EOF)

    def break_off(self) -> None:
        """As when the gateway's process ends."""
        self._answers.put_nowait(Unavailable("connection reset"))


class StreamingGateway(FakeGateway):
    """Attributes: `streams`, those that were opened."""

    def __init__(self, *workers: Any) -> None:
        super().__init__(*workers)
        self.streams: list[FakeStream] = []

    def ModelStreamInfer(self, timeout: float, metadata: tuple[tuple[str, str], ...] = ()) -> FakeStream:
        assert timeout > 0
        self.streams.append(FakeStream(self, timed=(SERVER_TIMING, "1") in metadata))
        return self.streams[-1]
