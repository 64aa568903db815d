"""Clients that ask directly, at a steady pace, by every way there is: `python -m chaos.asking FOLDER`.

Each way asks at fixed times whatever became of earlier requests, so that what is slow is not asked less. Every request
is noted when it leaves and when it has come to an end; whether the answer was right is for somebody else to say
(`asked`). Four ways are the SDK's, each through either gateway first; beside them is what a stock client does, which
knows one gateway, repeats nothing, and has gRPC's own defaults. Killed, it goes on under numbers of its next life.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from chaos import journal
from cloister import Client
from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from cloister.client.identity import tls_files
from cloister.errors import CloisterError
from cloister.rpc.spiffe import server_name
from fakes.running_mesh import CLUSTER, MODEL, inputs

STOCK = "stock"
WAYS = {"sealed call": (True, False), "sealed stream": (True, True), "call": (False, False), "stream": (False, True)}
"""Of the SDK: whether it is sealed, and whether it is on a stream."""
STOCK_S = 5.0
MOST_UNDER_WAY = 400
LIFE = 10_000_000
"""Numbers of one life."""
LOOK_S = 0.5

Ask = Callable[[int], Awaitable[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What to ask; as `pace.json` in a client's folder.

    Attributes:
        gateways: By name, where they are.
        rate: Requests a second, of each way through each gateway.
        timeout_s: Deadline of the SDK's requests, new attempts included.
        over: File that says how much of all is over, 0 to 1.
    """

    gateways: dict[str, str]
    trust: str
    identity: str
    rate: float
    timeout_s: float
    over: str

    def write(self, folder: Path) -> None:
        """For the client."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pace.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Pace:
        """What `write` wrote."""
        return cls(**json.loads((folder / "pace.json").read_text()))


class Notes:
    """What happened, a line each, in the file at once; the kernel keeps it where we are killed."""

    def __init__(self, path: Path, first: int) -> None:
        self._file = path.open("a", buffering=1)
        self.number = first

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator[Notes]:
        """To go on with."""
        path = folder / "asked.jsonl"
        lives = sum("life" in each for each in journal.read(path)) if path.exists() else 0
        notes = cls(path, lives * LIFE)
        with notes._file:
            if path.stat().st_size:
                notes._file.write("\n")  # a line that was torn spoils none but itself
            notes.note(life=lives)
            yield notes

    def note(self, **what: Any) -> None:
        """With the time."""
        self._file.write(json.dumps({"at": time.time(), **what}) + "\n")


async def ask_steadily(way: str, via: str, ask: Ask, rate: float, notes: Notes, over: asyncio.Event) -> None:
    """Ask at this rate until it is over, and see every request end."""
    clock = asyncio.get_running_loop().time

    async def one(number: int) -> None:
        try:
            y = await ask(number)
            notes.note(n=number, y=base64.b64encode(y.tobytes()).decode())
        except grpc.aio.AioRpcError as error:
            notes.note(n=number, error="RpcError", reason=error.code().name)
        except (CloisterError, TimeoutError) as error:
            notes.note(n=number, error=type(error).__name__, reason=getattr(error, "reason", ""), message=str(error))

    async with asyncio.TaskGroup() as group:
        running: set[asyncio.Task[None]] = set()
        due_s = clock()
        while not over.is_set():
            await asyncio.sleep(due_s - clock())
            due_s = max(due_s + 1 / rate, clock() - 1.0)
            if len(running) < MOST_UNDER_WAY:
                notes.number += 1
                notes.note(n=notes.number, way=way, via=via)
                task = group.create_task(one(notes.number))
                running.add(task)
                task.add_done_callback(running.discard)


async def sdk(client: Client, number: int, *, sealed: bool, timeout_s: float) -> NDArray[np.float32]:
    """By the SDK."""
    answer = await client.infer(MODEL, {"x": question(number)}, sealed=sealed, timeout_s=timeout_s)
    return answer.outputs["y"]


async def stock(stub: Any, number: int) -> NDArray[np.float32]:
    """By a stub and nothing else."""
    x = question(number)
    request = ModelInferRequest(model_name=MODEL, raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    answer = await stub.ModelInfer(request, timeout=STOCK_S)
    return np.frombuffer(answer.raw_output_contents[0], np.float32)


def question(number: int) -> NDArray[np.float32]:
    """The input of a request: its number says everything about it."""
    return inputs(number, rows=1 + number % 3)


async def main(folder: Path) -> None:
    """One life."""
    pace, over = Pace.read(folder), asyncio.Event()
    with Notes.opened(folder) as notes:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for at, via in enumerate(pace.gateways):
                first = [*list(pace.gateways.values())[at:], *list(pace.gateways.values())[:at]]
                for way, (sealed, streamed) in WAYS.items():
                    connecting = Client.connect(first, trust=pace.trust, identity=pace.identity)
                    client = await stack.enter_async_context(connecting)
                    if streamed:
                        client = await stack.enter_async_context(client.stream())
                    ask = partial(sdk, client, sealed=sealed, timeout_s=pace.timeout_s)
                    group.create_task(ask_steadily(way, via, ask, pace.rate, notes, over))
                channel = await stack.enter_async_context(_bare(first[0], Path(pace.identity)))
                ask = partial(stock, GRPCInferenceServiceStub(channel))
                group.create_task(ask_steadily(STOCK, via, ask, pace.rate, notes, over))
            while float(await asyncio.to_thread(Path(pace.over).read_text)) < 1:
                await asyncio.sleep(LOOK_S)
            over.set()


def _bare(address: str, identity: Path) -> grpc.aio.Channel:
    files = tls_files(identity)
    credentials = grpc.ssl_channel_credentials(
        files.trust_roots.read_bytes(), files.private_key.read_bytes(), files.certificate.read_bytes()
    )
    name = ("grpc.ssl_target_name_override", server_name(CLUSTER, "gateway"))
    return grpc.aio.secure_channel(address, credentials, options=[name])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
