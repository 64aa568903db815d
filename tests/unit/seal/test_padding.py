from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import SealBroken
from cloister.seal.padding import LARGEST_STEP_BYTES, LEAST_BYTES, pad, padded_bytes, strip
from fakes.sealed import unhurried

MIB = 1 << 20


@unhurried
@given(st.binary(max_size=4096))
def test_what_was_padded_is_stripped(content: bytes) -> None:
    assert strip(pad(content)) == content


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x00\x00", bytes(600), bytes(600_000), b"x" * 511])
def test_contents_that_look_like_padding_come_back_too(content: bytes) -> None:
    assert strip(pad(content)) == content


@unhurried
@given(st.integers(0, 80 * MIB))
def test_padding_costs_little_and_ends_at_a_length_that_others_have_too(size_bytes: int) -> None:
    padded = padded_bytes(size_bytes)
    assert padded > size_bytes
    assert padded_bytes(padded - 1) == padded
    assert padded - size_bytes <= LARGEST_STEP_BYTES
    assert padded == LEAST_BYTES or padded - size_bytes <= 0.07 * size_bytes


@pytest.mark.attack("I10")
@pytest.mark.parametrize(
    ("from_bytes", "to_bytes", "lengths"),
    [
        (0, LEAST_BYTES - 1, 1),
        (LEAST_BYTES, 1024, 17),
        (10_000, 20_000, 23),
        (MIB, 2 * MIB, 32),
        (32 * MIB, 64 * MIB, 512),
    ],
)
def test_few_lengths_remain(from_bytes: int, to_bytes: int, lengths: int) -> None:
    step = max(1, (to_bytes - from_bytes) // 10_000)
    assert len({padded_bytes(size) for size in range(from_bytes, to_bytes, step)}) <= lengths


@pytest.mark.parametrize(
    "padded",
    [
        b"",
        bytes(LEAST_BYTES),
        b"content",
        b"content\x80" + bytes(LEAST_BYTES - 9),
        b"content\x80" + bytes(LEAST_BYTES - 7),
        b"content\x80" + bytes(LEAST_BYTES - 9) + b"\x01",
        b"content\x81" + bytes(LEAST_BYTES - 8),
        b"x" * 520 + b"\x80" + bytes(544 + 32 - 521),
    ],
    ids=["empty", "no marker", "bare", "too short", "too long", "not zero", "another marker", "more than it takes"],
)
def test_anything_else_is_broken(padded: bytes) -> None:
    with pytest.raises(SealBroken):
        strip(padded)
