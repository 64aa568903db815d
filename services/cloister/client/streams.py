"""A stream that outlives gateways: when one has ended, the next request opens another."""

from __future__ import annotations

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.client.carriers import Aside, Stream
from cloister.client.tasks import Tasks
from cloister.rpc.channel import STREAM_S, Peer


class Streams:
    """One stream at a time, for all requests of a block.

    Args:
        gateway: Where streams are opened; with several addresses, where it then is.
        tasks: Whose tasks read and write.
        aside: What goes beside each stream.
    """

    def __init__(self, gateway: Peer, tasks: Tasks, aside: Aside) -> None:
        self._gateway = gateway
        self._tasks = tasks
        self._aside = aside
        self._stream: Stream | None = None
        self._closed = False

    async def carry(
        self, request: ModelInferRequest, timeout_s: float, aside: Aside | None = None
    ) -> ModelInferResponse:
        """See `carriers.Carrier`."""
        return await self._current().carry(request, timeout_s, aside)

    async def exchange(self, request: ModelInferRequest | bytes, timeout_s: float, aside: Aside | None = None) -> bytes:
        """See `carriers.Exchange`."""
        return await self._current().exchange(request, timeout_s, aside)

    def _current(self) -> Stream:
        stream = self._stream
        if stream is None or stream.ended:
            if self._closed:
                raise RuntimeError("the stream's block has ended")
            stream = self._stream = Stream.begun(self._gateway, self._tasks, STREAM_S, self._aside)
        return stream

    def close(self) -> None:
        """End the stream; requests under way on it are `Unavailable`."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()
