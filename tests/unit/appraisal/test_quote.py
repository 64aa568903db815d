"""The quote parser admits one reading of the bytes, or says why not; it never fails otherwise."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.body import EnclaveReport, TdReport, Tee
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.quote import MAX_QUOTE_BYTES, parse_quote
from cloister.appraisal.verify import VerifiedQuote, verify_quote
from cloister.errors import EvidenceRejected
from cloister_simulator.platform import Platform
from fakes import corpus
from fakes.sim import simulated_platform

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
PLATFORM = simulated_platform(NOW)
GOOD = PLATFORM.quote(bytes(range(64)))
LENGTH_AT = 432


def reason_of(raw: bytes) -> str:
    with pytest.raises(EvidenceRejected) as refused:
        parse_quote(raw)
    assert refused.value.step == 1
    return refused.value.reason


def changed(offset: int, new: bytes) -> bytes:
    return GOOD[:offset] + new + GOOD[offset + len(new) :]


def test_a_quote_is_taken_apart(sim: Platform) -> None:
    quote = parse_quote(sim.quote(bytes(range(64))))
    assert (quote.version, quote.tee, quote.padding_bytes) == (3, Tee.SGX, 0)
    assert isinstance(quote.body, EnclaveReport)
    assert quote.body.report_data == bytes(range(64))
    assert (quote.body.mrenclave, quote.body.mrsigner) == (sim.mrenclave, sim.mrsigner)
    assert (quote.body.isvprodid, quote.body.isvsvn) == (sim.isvprodid, sim.isvsvn)
    assert quote.qe_report.isvsvn == sim.qe_isvsvn
    assert quote.qe_auth_data == sim.qe_auth_data
    assert len(quote.signed) == 432


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
@pytest.mark.parametrize(
    ("name", "version", "hashes"), [("tdx4-utd-01", 4, 0), ("tdx5-relaunch-01b", 5, 1), ("tdx5-td15ex-01", 5, 5)]
)
def test_trust_domains_of_each_body(name: str, version: int, hashes: int) -> None:
    quote = parse_quote(corpus.evaluation(f"{name}:valid").quote.read_bytes())
    assert (quote.version, quote.tee) == (version, Tee.TDX)
    assert isinstance(quote.body, TdReport)
    assert len(quote.body.service_td_hashes) == hashes
    assert (quote.body.tee_tcb_svn2 is None) == (hashes == 0)
    assert len(quote.body.report_data) == 64


@pytest.mark.parametrize("length", [0, 1, 47, 48, 431, 432, 435, 436, 563, 564, 948, 1012, 1013, 1045, 1051, -1])
def test_truncated(length: int) -> None:
    assert reason_of(GOOD[:length]) == "quote.malformed"


@pytest.mark.parametrize(
    ("offset", "new", "reason"),
    [
        (0, b"\x02", "quote.unsupported"),
        (0, b"\x04", "quote.unsupported"),
        (0, b"\x06", "quote.unsupported"),
        (2, b"\x03", "quote.unsupported"),
        (4, b"\x81", "quote.unsupported"),
        (7, b"\x01", "quote.unsupported"),
        (12, b"\x00", "qe_vendor.unknown"),
        (48 + 21, b"\x01", "quote.malformed"),
        (48 + 96, b"\x01", "quote.malformed"),
        (48 + 191, b"\x01", "quote.malformed"),
        (48 + 303, b"\x01", "quote.malformed"),
        (LENGTH_AT, bytes(4), "quote.malformed"),
        (LENGTH_AT, b"\xff" * 4, "quote.malformed"),
        (LENGTH_AT + 4 + 576, b"\xff\xff", "quote.malformed"),
        (LENGTH_AT + 4 + 578 + 32, b"\x01\x00", "pck_chain.missing"),
        (LENGTH_AT + 4 + 578 + 32, b"\x06\x00", "pck_chain.missing"),
        (LENGTH_AT + 4 + 578 + 34, b"\xff" * 4, "quote.malformed"),
        (LENGTH_AT + 4 + 578 + 34, bytes(4), "quote.malformed"),
    ],
)
def test_one_field_wrong(offset: int, new: bytes, reason: str) -> None:
    assert reason_of(changed(offset, new)) == reason


def test_every_byte_is_accounted_for() -> None:
    length = struct.unpack_from("<I", GOOD, LENGTH_AT)[0]
    longer = GOOD[:LENGTH_AT] + struct.pack("<I", length + 1) + GOOD[LENGTH_AT + 4 :] + b"\x00"
    assert reason_of(longer) == "quote.malformed"
    assert reason_of(GOOD + b"\x01") == "quote.trailing_bytes"
    assert reason_of(GOOD + GOOD) == "quote.trailing_bytes"
    assert reason_of(GOOD + bytes(10) + b"\x01") == "quote.trailing_bytes"


def test_zero_padding_is_counted_and_taken_off() -> None:
    quote = parse_quote(GOOD + bytes(70))
    assert quote.padding_bytes == 70
    assert quote.raw == GOOD


def test_text_is_not_a_quote() -> None:
    assert reason_of(GOOD.hex().encode()) == "quote.unsupported"
    assert reason_of(b"-----BEGIN QUOTE-----\n" + GOOD) == "quote.unsupported"


def test_size_is_capped_before_anything_is_read() -> None:
    assert reason_of(b"\xff" * (MAX_QUOTE_BYTES + 1)) == "quote.too_large"
    assert parse_quote(GOOD + bytes(MAX_QUOTE_BYTES - len(GOOD))).padding_bytes


def outcome(act: Callable[[], object]) -> int:
    """The step that objected; 0 if none did. Any other exception is a failure."""
    try:
        act()
    except EvidenceRejected as error:
        return error.step
    return 0


@given(st.binary(max_size=6000))
def test_any_bytes(raw: bytes) -> None:
    assert outcome(lambda: parse_quote(raw)) == 1 or parse_quote(raw).raw


@cache
def verified_good() -> VerifiedQuote:
    anchor = TrustAnchor("simulator", PLATFORM.root_der())
    return verify_quote(GOOD, Collateral.parse(PLATFORM.collateral()).verified(anchor, NOW), anchor, NOW)


def flipped(raw: bytes, offset: int, mask: int) -> bytes:
    return raw[:offset] + bytes([raw[offset] ^ mask]) + raw[offset + 1 :]


@pytest.mark.attack("A23")
@settings(deadline=None)  # the first example pays for the platform
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255), st.integers(0, len(GOOD)), st.binary(max_size=40))
def test_what_is_accepted_after_damage_says_what_was_signed(offset: int, mask: int, cut: int, splice: bytes) -> None:
    good = verified_good()
    endorsed, anchor = good.endorsed, good.anchor
    for damaged in (flipped(GOOD, offset, mask), GOOD[:cut] + splice + GOOD[cut:]):
        if outcome(lambda raw=damaged: verify_quote(raw, endorsed, anchor, NOW)) == 0:
            found = verify_quote(damaged, endorsed, anchor, NOW)
            assert found.quote.signed == good.quote.signed
            assert found.platform == good.platform
            assert found.tcb == good.tcb
