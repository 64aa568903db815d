"""One listening port for several processes of one service, and for nobody else.

The kernel spreads connections among all sockets that listen with SO_REUSEPORT, whoever opened them: a server that set
it for itself could be joined by a second one that was started by mistake, and each would answer half. So a parent takes
the port first, alone, and its processes inherit that socket. It never listens, so it gets no connection; it keeps
everybody else from the port; and without it no process of ours sets SO_REUSEPORT.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from cloister.errors import NotReady
from cloister.kit.config import settings_error

VARIABLE: Final = "CLOISTER_PLACE"
_NO_PORT: Final = "-"


@dataclass(frozen=True, slots=True)
class Place:
    """Which of several processes this is.

    Attributes:
        number: From 1.
        count: How many there are.
        descriptor: Of the socket that holds their port; None where nobody calls them.
        face: Which of several faces of the service this is one of, each on a port of its own; empty for the first.
    """

    number: int
    count: int
    descriptor: int | None
    face: str = ""

    def environment(self) -> Mapping[str, str]:
        """What a parent gives this process."""
        face = f":{self.face}" if self.face else ""
        held = _NO_PORT if self.descriptor is None else self.descriptor
        return {VARIABLE: f"{self.number}/{self.count}:{held}{face}"}

    @classmethod
    def inherited(
        cls, environ: Mapping[str, str], listen: str, others: Mapping[str, str | None] = MappingProxyType({})
    ) -> Self | None:
        """The place that our parent gave us; None where nobody did.

        Args:
            environ: Ours.
            listen: Where the first face of the service listens.
            others: Where its other faces do, by name; None for one that nobody calls.

        Raises:
            NotReady: The variable is there, and the socket that holds the port is not.
        """
        text = environ.get(VARIABLE)
        if text is None:
            return None
        try:
            share, _, rest = text.partition(":")
            number, _, count = share.partition("/")
            descriptor, _, face = rest.partition(":")
            address = others[face] if face else listen
            if address is None and descriptor == _NO_PORT:
                return cls(int(number), int(count), None, face)
            place = cls(int(number), int(count), int(descriptor), face)
            held = socket.socket(fileno=place.descriptor)
        except (ValueError, OSError, KeyError):
            raise _not_ours() from None
        try:
            shared = held.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
            if not shared or address is None or held.getsockname()[1] != _address(address)[1]:
                raise _not_ours()
        except OSError:
            raise _not_ours() from None
        finally:
            held.detach()  # it stays open, for as long as this process lives
        return place


def places(count: int, descriptor: int | None, face: str = "") -> Sequence[Place]:
    """A place for each of so many processes."""
    return [Place(number, count, descriptor, face) for number in range(1, count + 1)]


@contextmanager
def reserved(listen: str) -> Iterator[tuple[socket.socket, str]]:
    """Take a port for several processes; gives the socket that they inherit, and where they listen.

    Args:
        listen: host:port; port 0 takes a free one.

    Raises:
        InvalidRequest: `listen` is no address; a mistake in the settings.
        NotReady: Somebody has it.
    """
    host, port = _address(listen)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        held = socket.socket(family, kind, protocol)
    except OSError as error:
        raise settings_error("listen", "its host is not known here") from error
    with held:
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended a moment ago are nobody
            held.bind(address)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # from here on we are somebody, to all but ours
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            raise NotReady(f"cannot listen on {listen}", reason="address.taken") from error
        yield held, f"{listen.rpartition(':')[0]}:{held.getsockname()[1]}"


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise settings_error("listen", "must be host:port")
    return host.strip("[]"), int(port)


def _not_ours() -> NotReady:
    return NotReady(f"{VARIABLE} is for the processes that a service starts itself; unset it", reason="port.not_shared")
