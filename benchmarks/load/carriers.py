"""How a load reaches a server: one class for each way, all with `ask`. Requests are bytes that were made before.

The load's own cost is kept low, because it shares the machine: no protobuf is parsed where it need not be. Only
sealing costs what it costs, since every request must be sealed anew.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
import numpy as np
from benchmarks.load import questions
from benchmarks.load.questions import Arrays
from benchmarks.load.streams import SERVED_VERSION, SERVICE, TIMEOUT_S, Openings, SealedStream, Stream

from cloister import Client
from cloister.client import Answer
from cloister.oip.tensors import decode_response, parse_response
from cloister.rpc.channel import MAX_MESSAGE_BYTES

REST = ("REST, JSON", "REST, binary")
_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to ask, and how.

    Attributes:
        carrier: One of `CARRIERS`.
        address: host:port.
        model: Name there.
        questions: Folder of the inputs.
        identity: Folder of the client's TLS files; empty for a server without TLS.
        server_name: DNS name in the server's certificate.
        trust: Trust bundle, for sealed requests.
        outputs: Names, shapes and NumPy dtypes of the outputs; only for a carrier whose answers are bare bytes.
        timeout_s: Deadline of each request; of a stream's, only the stream has one.
    """

    carrier: str
    address: str
    model: str
    questions: str
    identity: str = ""
    server_name: str = ""
    trust: str = ""
    outputs: Sequence[tuple[str, Sequence[int], str]] = ()
    timeout_s: float = TIMEOUT_S


class Carrier(Protocol):
    """Takes questions to a server."""

    async def ask(self, number: int) -> Any:
        """Ask question `number`, counted round; raises when the answer is an error."""

    def arrays(self, answer: Any) -> Arrays:
        """The outputs in an answer."""


class Unary:
    """Each request is a gRPC call."""

    def __init__(self, channel: grpc.aio.Channel, requests: Sequence[bytes], timeout_s: float = TIMEOUT_S) -> None:
        self._call: Any = channel.unary_unary(f"{SERVICE}/ModelInfer")  # bytes in, bytes out
        self._requests = requests
        self._timeout_s = timeout_s

    async def ask(self, number: int) -> bytes:
        """See `Carrier`."""
        answer: bytes = await self._call(self._requests[number % len(self._requests)], timeout=self._timeout_s)
        return answer

    def arrays(self, answer: bytes) -> Arrays:
        """See `Carrier`. MLServer sends an empty message beside raw contents, which the protocol does not allow."""
        response = parse_response(answer)
        for output in response.outputs if response.raw_output_contents else ():
            if not output.contents.ByteSize():
                output.ClearField("contents")
        return decode_response(response)


class Sealed:
    """What the SDK does: sealed to workers that it has judged, over calls of their own or one stream."""

    def __init__(self, client: Client, model: str, inputs: Sequence[Arrays], timeout_s: float = TIMEOUT_S) -> None:
        self._client, self._model, self._inputs, self._timeout_s = client, model, inputs, timeout_s

    async def ask(self, number: int) -> Answer:
        """See `Carrier`."""
        inputs = self._inputs[number % len(self._inputs)]
        return await self._client.infer(self._model, inputs, timeout_s=self._timeout_s)

    def arrays(self, answer: Answer) -> Arrays:
        """See `Carrier`."""
        return dict(answer.outputs)


class Http:
    """POST over HTTP/1.1, one connection for each request in flight: of the tensor's bytes, or whatever is given."""

    def __init__(self, target: Target, inputs: Sequence[Arrays], requests: Sequence[bytes] = ()) -> None:
        host, _, port = target.address.rpartition(":")
        self._where, self._outputs, self._tls = (host, int(port)), target.outputs, _tls(target)
        head = f"POST /inference HTTP/1.1\r\nHost: {target.address}\r\nContent-Length: "
        bodies = [b"".join(array.tobytes() for array in each.values()) for each in inputs]
        self._requests = requests or [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._opened: list[asyncio.StreamWriter] = []

    async def ask(self, number: int) -> bytes:
        """See `Carrier`."""
        reader, writer = self._idle.pop() if self._idle else await self._connected()
        writer.write(self._requests[number % len(self._requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.partition(b"\r\n")[0].decode())
        length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        answer = await reader.readexactly(int(length))
        self._idle.append((reader, writer))
        return answer

    def arrays(self, answer: bytes) -> Arrays:
        """See `Carrier`."""
        found, at = {}, 0
        for name, shape, dtype in self._outputs:
            array = np.frombuffer(answer, dtype, int(np.prod(shape)), at).reshape(shape)
            found[name], at = array, at + array.nbytes
        return found

    async def close(self) -> None:
        """Hang up."""
        for writer in self._opened:
            writer.close()
            await writer.wait_closed()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._where, ssl=self._tls)
        self._opened.append(writer)
        return reader, writer


@asynccontextmanager
async def opened(target: Target) -> AsyncIterator[Carrier]:
    """The carrier that `target` names, connected."""
    inputs = questions.read(Path(target.questions))
    if target.carrier in ("http", *REST):
        http = Http(
            target, inputs, questions.rest(target.model, inputs, target.carrier) if target.carrier in REST else ()
        )
        try:
            yield http
        finally:
            await http.close()
    elif target.carrier == "bare sealed stream":
        async with (
            Client.connect(target.address, trust=target.trust, identity=target.identity) as client,
            _channel(target) as channel,
        ):
            requests = [questions.oip(target.model, each, version=SERVED_VERSION) for each in inputs]
            async with _at_work(SealedStream(channel, requests, Openings(client, channel, target.model))) as stream:
                yield stream
    elif target.carrier.startswith("sealed"):
        async with Client.connect(target.address, trust=target.trust, identity=target.identity) as client:
            if target.carrier == "sealed stream":
                async with client.stream() as streaming:
                    yield Sealed(streaming, target.model, inputs, target.timeout_s)
            else:
                yield Sealed(client, target.model, inputs, target.timeout_s)
    else:
        requests = [questions.oip(target.model, each) for each in inputs]
        async with _channel(target) as channel:
            if target.carrier == "unary":
                yield Unary(channel, requests, target.timeout_s)
                return
            async with _at_work(Stream(channel, requests)) as stream:
                yield stream


@asynccontextmanager
async def _at_work(stream: Stream) -> AsyncIterator[Stream]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stream.write()), group.create_task(stream.read())]
        yield stream
        for task in tasks:
            task.cancel()


def _tls(target: Target) -> ssl.SSLContext | None:
    if not target.identity:
        return None
    files = Path(target.identity)
    context = ssl.create_default_context(cafile=str(files / "trust_roots.pem"))
    context.load_cert_chain(files / "certificate.pem", files / "private_key.pem")
    return context


def _channel(target: Target) -> grpc.aio.Channel:
    if not target.identity:
        return grpc.aio.insecure_channel(target.address, options=_OPTIONS)
    files = [Path(target.identity) / f"{name}.pem" for name in ("trust_roots", "private_key", "certificate")]
    credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    options = (*_OPTIONS, ("grpc.ssl_target_name_override", target.server_name))
    return grpc.aio.secure_channel(target.address, credentials, options=options)
