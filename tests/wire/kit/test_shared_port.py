"""A port for several processes of one parent, and for nobody else."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from cloister.errors import InvalidRequest, NotReady
from cloister.kit.shared_port import VARIABLE, Place, reserved


def listening(address: str, *, shared: bool) -> socket.socket:
    """As gRPC opens one."""
    host, _, port = address.rpartition(":")
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        opened.bind((host, int(port)))
        opened.listen()
    except OSError:
        opened.close()
        raise
    return opened


def test_only_processes_that_share_can_listen_and_the_parent_gets_no_connection() -> None:
    with reserved("127.0.0.1:0") as (_, address):
        host, _, port = address.rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))
        with closing(listening(address, shared=True)), closing(listening(address, shared=True)):
            socket.create_connection((host, int(port))).close()
            with pytest.raises(OSError, match="in use"):
                listening(address, shared=False)
    with reserved(address):  # connections that have just ended keep nobody from it
        pass


def test_a_second_parent_is_refused_whether_or_not_anybody_listens_yet() -> None:
    with reserved("127.0.0.1:0") as (_, address):
        with pytest.raises(NotReady, match="cannot listen"), reserved(address):
            pass
        with closing(listening(address, shared=True)), pytest.raises(NotReady), reserved(address):
            pass


def test_a_parent_is_refused_where_somebody_listens_alone() -> None:
    with reserved("127.0.0.1:0") as (_, address):
        pass
    with closing(listening(address, shared=False)), pytest.raises(NotReady), reserved(address):
        pass


@pytest.mark.parametrize("listen", ["8440", "host:port", "127.0.0.1:70000", "no such host.invalid:1"])
def test_what_is_no_address_is_a_mistake_in_the_settings(listen: str) -> None:
    with pytest.raises(InvalidRequest, match="listen"), reserved(listen):
        pass


def test_a_place_is_believed_only_with_the_socket_that_holds_the_port() -> None:
    with reserved("127.0.0.1:0") as (held, address):
        place = Place(2, 4, held.fileno())
        assert Place.inherited(place.environment(), address) == place
        assert Place.inherited({}, address) is None
        other_face = Place(1, 1, held.fileno(), "rest")
        assert Place.inherited(other_face.environment(), "127.0.0.1:1", {"rest": address}) == other_face
        with pytest.raises(NotReady):
            Place.inherited(other_face.environment(), address)
        nobody_calls = Place(1, 2, None, "jobs")
        assert Place.inherited(nobody_calls.environment(), address, {"jobs": None}) == nobody_calls
        for face, others in (("jobs", {"jobs": address}), ("", {}), ("rest", {"jobs": None})):
            with pytest.raises(NotReady):
                Place.inherited(Place(1, 2, None, face).environment(), address, others)
        with pytest.raises(NotReady):
            Place.inherited(Place(1, 2, held.fileno(), "jobs").environment(), address, {"jobs": None})
        with closing(socket.socket()) as other:
            other.bind(("127.0.0.1", 0))
            for wrong in (f"2/4:{other.fileno()}", "2/4:999", "2/4:0", "2/4", "2", "", "a/b:c"):
                with pytest.raises(NotReady, match=VARIABLE):
                    Place.inherited({VARIABLE: wrong}, address)
        with pytest.raises(NotReady):
            Place.inherited(place.environment(), "127.0.0.1:1")
        assert held.getsockname()  # looking at it has not closed it
