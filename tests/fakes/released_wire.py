"""The wire of the last release, from its descriptors alone: its messages and calls, in a pool of their own.

Whoever calls through `Then` sends, byte for byte, what that release's stubs send, and understands of an answer what
they understand: what came later is lost on the way, in both directions.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from upgrade.released import last

M = TypeVar("M", bound=Message)


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(last().wire.read_bytes()).file:
        pool.Add(file)
    return pool


def as_understood(told: M) -> M:
    """A message with nothing in it that the last release does not know."""
    then = GetMessageClass(_pool().FindMessageTypeByName(told.DESCRIPTOR.full_name))()
    then.ParseFromString(told.SerializeToString())
    then.DiscardUnknownFields()
    return type(told).FromString(then.SerializeToString())


class Then:
    """A peer, as callers of the last release reach it; takes the place of `Peer` where one is called."""

    def __init__(self, peer: Any) -> None:
        self._peer = peer

    def stub(self, stub_class: Any) -> Any:
        """As `Peer.stub`."""
        return self._peer.stub(lambda channel: stub_class(_Channel(channel)))


class _Channel:
    """What a generated stub takes for a channel; of calls that came later it has none."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __getattr__(self, shape: str) -> Any:
        def made(path: str, request_serializer: Any, response_deserializer: Any, **rest: Any) -> Any:
            service, _, name = path.removeprefix("/").partition("/")
            method = _pool().FindServiceByName(service).methods_by_name.get(name)
            if method is None:
                return None
            assert shape == _shape(method), f"{path} is {shape} now"
            return getattr(self._channel, shape)(
                path,
                request_serializer=lambda request: request_serializer(as_understood(request)),
                response_deserializer=lambda raw: as_understood(response_deserializer(raw)),
                **rest,
            )

        return made


def _shape(method: Any) -> str:
    words = {False: "unary", True: "stream"}
    return f"{words[method.client_streaming]}_{words[method.server_streaming]}"
