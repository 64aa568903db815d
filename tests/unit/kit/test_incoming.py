"""What waits to be read: cut on demand, counted by peer, and forgotten with its call."""

from __future__ import annotations

import grpc
import pytest

from cloister.errors import Overloaded
from cloister.kit.incoming import AHEAD_BYTES, Arrivals, Incoming

PLENTY = 1 << 30


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def incoming(arrivals: Arrivals, peer: bytes = b"ann", limit: int = 1 << 20) -> Incoming:
    return Incoming(peer, arrivals, limit)


@pytest.mark.attack("G21")
def test_one_peer_may_have_half_of_what_may_arrive() -> None:
    arrivals = Arrivals(100)
    arrivals.add(b"mallory", 50)
    with pytest.raises(Overloaded):
        arrivals.add(b"mallory", 1)
    arrivals.add(b"ann", 50)
    with pytest.raises(Overloaded):
        arrivals.add(b"bob", 1)
    arrivals.remove(b"mallory", 50)
    arrivals.add(b"bob", 50)


@pytest.mark.attack("G21")
def test_beginnings_of_messages_are_bounded_over_all_calls_of_a_peer() -> None:
    arrivals = Arrivals(4000)
    begun = [incoming(arrivals) for _ in range(3)]
    for each in begun:
        each.feed(framed(bytes(5000))[:1000])
    assert [each.refusal is None for each in begun] == [True, True, False]
    assert begun[2].refusal is not None
    assert begun[2].refusal[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    other = incoming(arrivals, b"bob")
    other.feed(framed(bytes(1000)))
    assert other.take() == bytes(1000)


def test_what_was_read_or_given_up_counts_no_longer() -> None:
    arrivals = Arrivals(2000)
    for _ in range(10):
        call = incoming(arrivals)
        call.feed(framed(bytes(300)) + framed(bytes(300))[:200])
        assert call.take() == bytes(300)
        assert call.take() is None
        call.close()
        call.feed(bytes(900))  # comes too late
    arrivals.add(b"ann", 1000)


def test_a_message_over_the_limit_is_refused_after_those_before_it() -> None:
    call = incoming(Arrivals(PLENTY), limit=3)
    call.feed(framed(b"one") + framed(b"four")[:5])
    assert call.take() == b"one"
    assert call.take() is None
    assert call.refusal == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (4 vs. 3)")
    call.feed(framed(b"two"))
    assert call.take() is None


def test_there_is_room_until_enough_waits_and_again_when_it_is_read() -> None:
    call = incoming(Arrivals(PLENTY))
    message = bytes(AHEAD_BYTES // 2)
    call.feed(framed(message) * 2)
    assert not call.has_room
    assert call.take() == message
    assert call.has_room
    assert call.within_message
    assert call.take() == message
    assert not call.within_message
