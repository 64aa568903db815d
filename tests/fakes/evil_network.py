"""A network that does what it likes: a TCP proxy that sees TLS records go by, and cuts, holds or exchanges them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

_HEADER_BYTES = 5


class Towards(Enum):
    """Which way a record goes."""

    GATEWAY = "gateway"
    CLIENT = "client"


class Cut(Exception):
    """Raised by a plan to end the connection there, after these bytes."""

    def __init__(self, last: bytes = b"") -> None:
        super().__init__()
        self.last = last


class Hold(Exception):
    """Raised by a plan to pass nothing more this way, and keep the connection open."""


Plan = Callable[[Towards, int, bytes], Awaitable[Sequence[bytes]]]
"""What becomes of a record: from its way, its number from 1 since the plan began, and its bytes, to what is sent on."""


async def honest(_towards: Towards, _number: int, record: bytes) -> Sequence[bytes]:
    """A good network's plan."""
    return [record]


@dataclass
class EvilNetwork:
    """Stands before a gateway.

    Attributes:
        address: Where to connect.
        plan: What becomes of each record from now on, on all connections.
        connections: How many there were.
        touched: How many records the plan in force did not pass on as they were.
        recorded: By connection, all bytes that went to the gateway.
        over: Set at the end, for those that wait.
    """

    gateway: str
    address: str = ""
    plan: Plan = honest
    connections: int = 0
    touched: int = 0
    recorded: list[bytearray] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: dict[Towards, int] = field(default_factory=dict)
    _ends: list[asyncio.StreamWriter] = field(default_factory=list)

    def follow(self, plan: Plan) -> None:
        """Do otherwise from the next record on."""
        self.plan = plan
        self._numbers = dict.fromkeys(Towards, 0)
        self.touched = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either end or the plan ends it."""
        host, _, port = self.gateway.rpartition(":")
        onward_reader, onward_writer = await asyncio.open_connection(host, int(port))
        self.connections += 1
        self.recorded.append(bytearray())
        self._ends += (writer, onward_writer)
        ways = ((Towards.GATEWAY, reader, onward_writer), (Towards.CLIENT, onward_reader, writer))
        try:
            async with asyncio.TaskGroup() as group:
                for way in ways:
                    group.create_task(self._pass(*way, self.recorded[-1]))
        except* (asyncio.IncompleteReadError, ConnectionError, Cut):
            pass
        finally:
            for end in (writer, onward_writer):
                end.transport.abort()

    def end(self) -> None:
        """End all connections."""
        self.over.set()
        for writer in self._ends:
            writer.transport.abort()

    async def replayed(self, recorded: bytes) -> bytes:
        """Send a recorded connection's bytes to the gateway again; returns all that it says until it hangs up."""
        host, _, port = self.gateway.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(recorded)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()

    async def _pass(
        self, towards: Towards, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, recorded: bytearray
    ) -> None:
        while True:
            head = await reader.readexactly(_HEADER_BYTES)
            record = head + await reader.readexactly(int.from_bytes(head[3:], "big"))
            if towards is Towards.GATEWAY:
                recorded += record
            self._numbers[towards] = number = self._numbers.get(towards, 0) + 1
            try:
                passed = await self.plan(towards, number, record)
                self.touched += list(passed) != [record]
                for sent in passed:
                    writer.write(sent)
            except Hold:
                self.touched += 1
                await self.over.wait()
            except Cut as cut:
                self.touched += 1
                writer.write(cut.last)
                writer.close()
                raise
            await writer.drain()


@asynccontextmanager
async def evil_network(gateway: str) -> AsyncIterator[EvilNetwork]:
    """A network between a client and the gateway at this address; honest until told otherwise."""
    network = EvilNetwork(gateway)
    server = await asyncio.start_server(network.serve, "127.0.0.1", 0)
    network.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield network
        server.close()
        network.end()
        await asyncio.sleep(0.01)  # what reads from them ends


def cutting(towards: Towards, at: int = 1, *, keep_bytes: int = 0) -> Plan:
    """End the connection at a record, of which so many bytes still pass."""

    async def plan(way: Towards, number: int, record: bytes) -> Sequence[bytes]:
        if way is towards and number >= at:
            raise Cut(record[:keep_bytes])
        return [record]

    return plan


def holding(towards: Towards, at: int = 1) -> Plan:
    """Pass nothing from a record on, and keep the connection open."""

    async def plan(way: Towards, number: int, record: bytes) -> Sequence[bytes]:
        if way is towards and number >= at:
            raise Hold
        return [record]

    return plan


def repeating(towards: Towards, at: int = 1) -> Plan:
    """Send a record twice."""

    async def plan(way: Towards, number: int, record: bytes) -> Sequence[bytes]:
        return [record, record] if way is towards and number == at else [record]

    return plan


def exchanging(towards: Towards, at: int = 1) -> Plan:
    """Send a record after the one that follows it."""
    held: list[bytes] = []

    async def plan(way: Towards, number: int, record: bytes) -> Sequence[bytes]:
        if way is towards and number == at:
            held.append(record)
            return []
        return [record, held.pop()] if way is towards and held else [record]

    return plan


def altering(towards: Towards, at: int = 1) -> Plan:
    """Change a bit in a record."""

    async def plan(way: Towards, number: int, record: bytes) -> Sequence[bytes]:
        return [record[:-1] + bytes([record[-1] ^ 1])] if way is towards and number == at else [record]

    return plan


def dripping(towards: Towards) -> Plan:
    """Send every byte by itself."""

    async def plan(way: Towards, _number: int, record: bytes) -> Sequence[bytes]:
        return [record[at : at + 1] for at in range(len(record))] if way is towards else [record]

    return plan
