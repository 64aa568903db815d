"""CBOR of strangers: one form for each item, nothing acted upon, and no time lost on it."""

from __future__ import annotations

import time

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest
from cloister.evidence import binding
from cloister.evidence.cbor import MAX_DEPTH, Item, Tagged, read

ITEMS = st.recursive(
    st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=300) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def depth_of(item: object) -> int:
    inside = item if isinstance(item, list) else list(item.values()) if isinstance(item, dict) else ()
    return 1 + max(map(depth_of, inside), default=-1) if isinstance(item, list | dict) else 0


@given(ITEMS)
def test_what_another_library_wrote_is_read_as_it_was(item: Item) -> None:
    raw = cbor2.dumps(item, canonical=True)
    if depth_of(item) <= MAX_DEPTH:
        assert read(raw) == item
    else:
        with pytest.raises(ValueError, match="nested"):
            read(raw)


def test_a_tag_is_handed_over() -> None:
    assert read(cbor2.dumps(cbor2.CBORTag(60000, [b"q", b"c"]))) == Tagged(60000, [b"q", b"c"])


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "1800",  # a head longer than it needs to be
        "1817",
        "1900ff",
        "1a0000ffff",
        "1b00000000ffffffff",
        "5f41004100ff",  # indefinite
        "9fff",
        "bfff",
        "1c",
        "ff",
        "f4",  # simple values and floats
        "f6",
        "f97e00",
        "fb0000000000000000",
        "a2616100616101",  # a key twice
        "a10001",  # a key that is not text
        "61ff",  # not UTF-8
        "4200",  # too short
        "9bffffffffffffffff",
        "5bffffffffffffffff",
        "0000",  # more than one
        "8181818181" + "00",  # too deep
        "c1c1c1c1c1" + "00",
    ],
)
def test_any_other_form_is_refused(raw: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read(bytes.fromhex(raw))


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    try:
        item = read(raw)
    except ValueError:
        return
    assert item == read(raw)


@pytest.mark.attack("A23")
def test_a_tag_sets_nothing_in_motion() -> None:
    """A general decoder compiles the pattern behind tag 35, and was busy with this one for more than a second."""
    pattern = "(?i)" + "[a-\U0010fffe\x01]" * 300
    for raw in (
        cbor2.dumps(cbor2.CBORTag(35, pattern)),
        cbor2.dumps({"v": cbor2.CBORTag(35, pattern)}),
        cbor2.dumps(cbor2.CBORTag(5, [1 << 60, 3])),
        cbor2.dumps(cbor2.CBORTag(4, [-(1 << 60), 3])),
    ):
        begun = time.thread_time()
        with pytest.raises(InvalidRequest):
            binding.decode(raw)
        assert time.thread_time() - begun < 0.05
