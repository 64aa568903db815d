from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.api.v1.seal_pb2 import Recipient, SealedRequest
from cloister.errors import SealBroken
from cloister.seal import framing
from fakes.sealed import unhurried


@unhurried
@given(header=st.binary(max_size=300), recipients=st.integers(0, 16), ciphertext=st.binary(min_size=1, max_size=400))
def test_a_head_and_its_ciphertext_are_the_message(header: bytes, recipients: int, ciphertext: bytes) -> None:
    message = SealedRequest(header=header, recipients=[Recipient(sequence=i) for i in range(recipients)])
    head = framing.head(message.SerializeToString(), 3, len(ciphertext))
    message.ciphertext = ciphertext
    raw = message.SerializeToString()
    assert head + ciphertext == raw
    assert framing.split(raw, 3) == (head[: len(raw) - len(ciphertext)][: -_overhead(ciphertext)], head, ciphertext)


def _overhead(ciphertext: bytes) -> int:
    return 2 if len(ciphertext) < 128 else 3


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x0a",
        b"\x0a\x05ab",
        b"\x1a\x01xy",  # goes on after the ciphertext
        b"\x1a\x01x\x0a\x01h",  # the ciphertext is not last
        b"\x12\x01r\x0a\x01h\x1a\x01x",  # fields out of order
        b"\x22\x01u\x1a\x01x",  # a field of a later version
        b"\x08\x01\x1a\x01x",  # a varint in place of bytes
        b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x",  # a length beyond all reason
        b"\x0a\x00" * 64 + b"\x1a\x01x",  # more fields than anyone needs
        b"\x0a\x80\x80\x08" + bytes(1 << 17) + b"\x1a\x01x",  # a header of 128 KiB
    ],
)
def test_what_is_not_of_this_form_is_refused(raw: bytes) -> None:
    with pytest.raises(SealBroken):
        framing.split(raw, 3)


@unhurried
@given(st.binary(max_size=200))
def test_any_bytes_split_or_are_refused(raw: bytes) -> None:
    try:
        _, head, ciphertext = framing.split(raw, 3)
    except SealBroken:
        return
    assert head + bytes(ciphertext) == raw
