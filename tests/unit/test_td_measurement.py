"""One digest for all that a trust domain measures as: its form is written down, and every bit of it counts."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import Any

import pytest

from cloister.td_measurement import TdMeasurement
from fakes.results import TD

FIELDS = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig")


def with_register(name: str, value: bytes) -> TdMeasurement:
    if not name.startswith("rtmr"):
        changes: dict[str, Any] = {name: value}
        return replace(TD, **changes)
    rtmrs = list(TD.rtmrs)
    rtmrs[int(name[-1])] = value
    return replace(TD, rtmrs=tuple(rtmrs))  # type: ignore[arg-type]  # four still


def test_the_digest_is_over_the_fields_as_they_are_written_down() -> None:
    said = b"cloister td measurement v1\0"
    said += b"".join(bytes([fill]) * 48 for fill in (0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0, 0, 0))
    said += struct.pack("<Q", 1 << 28)
    assert TD.digest == hashlib.sha256(said).digest()


def test_it_stays_what_it_is() -> None:
    """A policy that was signed names this digest: another one would be another measurement for everybody."""
    assert TD.digest.hex() == "3c65ab88c379c539ad62c3139c42ff8afa1563d504d541309521ef2d221aefed"


@pytest.mark.parametrize("name", FIELDS)
def test_every_register_counts_and_none_can_stand_for_another(name: str) -> None:
    found = {TD.digest, *(with_register(each, b"\x01" + bytes(47)).digest for each in FIELDS)}
    assert len(found) == 1 + len(FIELDS)
    assert with_register(name, b"\x01" + bytes(47)).digest != TD.digest


def test_every_attribute_counts() -> None:
    assert len({replace(TD, attributes=1 << bit).digest for bit in range(64)}) == 64


@pytest.mark.parametrize("size", [0, 32, 47, 49])
@pytest.mark.parametrize("name", FIELDS)
def test_registers_have_48_bytes(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="48 bytes"):
        with_register(name, bytes(size))


def test_there_are_four_runtime_registers_and_64_attributes() -> None:
    with pytest.raises(ValueError, match="four"):
        replace(TD, rtmrs=TD.rtmrs[:3])  # type: ignore[arg-type]  # what is tested
    for wrong in (-1, 1 << 64):
        with pytest.raises(ValueError, match="64 bits"):
            replace(TD, attributes=wrong)
