"""TCP ports on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import ExitStack

FIRST = 8440
LAST = 65535


def free_ports(count: int, besides: Collection[int] = (), first: int = FIRST) -> list[int]:
    """`count` different ports that nobody listens on now, looked for from `first` on; none of `besides`."""
    with ExitStack() as held:
        ports: list[int] = []
        for port in range(first, min(first + 200, LAST + 1)):
            if len(ports) < count and port not in besides and (taken := _hold(port)) is not None:
                held.enter_context(taken)
                ports.append(port)
        while len(ports) < count:
            any_port = _hold(0)
            if any_port is not None:
                ports.append(held.enter_context(any_port).getsockname()[1])
        return ports


def is_free(address: str) -> bool:
    """Whether nobody listens on `address`, host:port."""
    taken = _hold(port_of(address))
    if taken is not None:
        taken.close()
    return taken is not None


def port_of(address: str) -> int:
    """The port in `address`, host:port."""
    return int(address.rpartition(":")[2])


def _hold(port: int) -> socket.socket | None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what closed a moment ago is free
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        return None
    return listener
