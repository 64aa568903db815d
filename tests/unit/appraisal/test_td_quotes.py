"""Quotes of trust domains, taken apart: one reading of the bytes, or the reason why there is none."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.quote import parse_quote
from cloister.appraisal.verify import VerifiedQuote, verify_quote
from cloister.errors import EvidenceRejected
from fakes.sim import simulated_platform
from fakes.trust_domain import Level, TrustDomain, td_collateral, td_quote

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
PLATFORM = simulated_platform(NOW)
LAUNCHED = bytes([3, 0, 4]) + bytes(13)
QUOTES = {
    "4": td_quote(PLATFORM, TrustDomain(tee_tcb_svn=LAUNCHED), version=4),
    "5 of TDX 1.0": td_quote(PLATFORM, TrustDomain(tee_tcb_svn=LAUNCHED)),
    "5 of TDX 1.5": td_quote(PLATFORM, TrustDomain(tee_tcb_svn=LAUNCHED, tee_tcb_svn2=LAUNCHED)),
    "5 extended": td_quote(PLATFORM, TrustDomain(tee_tcb_svn=LAUNCHED, tee_tcb_svn2=LAUNCHED, extended=True)),
}
LENGTH_AT = {"4": 48 + 584, "5 of TDX 1.0": 54 + 584, "5 of TDX 1.5": 54 + 648, "5 extended": 54 + 885}
KINDS = sorted(QUOTES)


def reason_of(raw: bytes) -> str:
    with pytest.raises(EvidenceRejected) as refused:
        parse_quote(raw)
    assert refused.value.step == 1
    return refused.value.reason


def changed(raw: bytes, offset: int, new: bytes) -> bytes:
    return raw[:offset] + new + raw[offset + len(new) :]


@pytest.mark.attack("A01")
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_anywhere(kind: str) -> None:
    raw = QUOTES[kind]
    assert {reason_of(raw[:length]) for length in range(len(raw))} == {"quote.malformed"}


@pytest.mark.attack("A02")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "offset", [0, 4 + 64 + 64 + 2, 4 + 64 + 64 + 6 + 384 + 64, 4 + 64 + 64 + 6 + 384 + 64 + 2 + 32 + 2]
)
def test_lengths_that_do_not_fit(kind: str, offset: int) -> None:
    """Of the signature data, the wrapped report, the authentication data and the certificates."""
    raw, at = QUOTES[kind], LENGTH_AT[kind] + offset
    form = "<H" if offset == 4 + 64 + 64 + 6 + 384 + 64 else "<I"
    (length,) = struct.unpack_from(form, raw, at)
    for wrong in (0, length - 1, length + 1, 0xFFFF, 256 ** struct.calcsize(form) - 1):
        assert reason_of(changed(raw, at, struct.pack(form, wrong))) == "quote.malformed"


@pytest.mark.attack("A06")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("offset", "new", "reason"),
    [
        (0, b"\x03", "quote.unsupported"),
        (0, b"\x06", "quote.unsupported"),
        (2, b"\x03", "quote.unsupported"),
        (4, b"\x00", "quote.unsupported"),
        (4, b"\x82", "quote.unsupported"),
        (8, b"\x01", "quote.malformed"),
        (11, b"\x80", "quote.malformed"),
        (12, b"\x00", "qe_vendor.unknown"),
    ],
)
def test_headers(kind: str, offset: int, new: bytes, reason: str) -> None:
    assert reason_of(changed(QUOTES[kind], offset, new)) == reason


@pytest.mark.attack("A06")
@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("body_type", range(6))
def test_bodies_under_another_type(kind: str, body_type: int) -> None:
    raw = QUOTES[kind]
    if body_type == raw[48]:
        for size in (0, 384, 583, 649, 886, 0xFFFFFFFF):
            assert reason_of(changed(raw, 50, struct.pack("<I", size))) == "quote.malformed"
    else:
        known = body_type in (2, 3, 4)
        reason = "quote.malformed" if known else "quote.unsupported"
        assert reason_of(changed(raw, 48, struct.pack("<H", body_type))) == reason


@pytest.mark.attack("A18")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [4 + 64 + 64, 4 + 64 + 64 + 6 + 384 + 64 + 2 + 32])
def test_certification_data_of_another_type(kind: str, offset: int) -> None:
    raw, at = QUOTES[kind], LENGTH_AT[kind] + offset
    for other in set(range(9)) - {raw[at]}:
        assert reason_of(changed(raw, at, struct.pack("<H", other))) == "pck_chain.missing"


@cache
def verified(kind: str) -> VerifiedQuote:
    anchor = TrustAnchor("simulator", PLATFORM.root_der())
    collateral = Collateral.parse(td_collateral(PLATFORM, [Level(tdx=LAUNCHED, status="UpToDate")]))
    return verify_quote(QUOTES[kind], collateral.verified(anchor, NOW), anchor, NOW)


@settings(deadline=None)  # the first example pays for the collateral
@given(st.sampled_from(KINDS), st.integers(0), st.integers(1, 255))
def test_what_is_accepted_after_damage_says_what_was_signed(kind: str, offset: int, mask: int) -> None:
    good, raw = verified(kind), QUOTES[kind]
    at = offset % len(raw)
    damaged = changed(raw, at, bytes([raw[at] ^ mask]))
    try:
        found = verify_quote(damaged, good.endorsed, good.anchor, NOW)
    except EvidenceRejected:
        return
    assert (found.quote.signed, found.platform, found.tcb) == (good.quote.signed, good.platform, good.tcb)
