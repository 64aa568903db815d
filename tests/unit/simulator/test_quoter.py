"""The simulated quoter is a Quoter, and quotes the enclave it was made for."""

from __future__ import annotations

import hashlib

import dcap_qvl
import pytest

from cloister.evidence.binding import decode, report_data
from cloister.evidence.quoter import Quoter
from cloister_simulator.measurement import Measurement
from cloister_simulator.quoter import SimulatedQuoter
from cloister_simulator.recipe import ATTRIBUTE_DEBUG, attributes
from fakes.sim import ENCLAVE, VERIFIER, good_evidence, library_verdict, simulated_platform, simulated_quoter


async def test_it_quotes_its_enclave_over_what_it_is_given() -> None:
    sim = simulated_platform()
    enclave = Measurement(mrenclave=b"m" * 32, mrsigner=b"s" * 32, isvprodid=7, isvsvn=9)
    quoter: Quoter = SimulatedQuoter(sim, enclave)
    raw = await quoter.quote(b"d" * 64)
    report = dcap_qvl.parse_quote(raw).report
    assert (report.mr_enclave, report.mr_signer, report.report_data) == (b"m" * 32, b"s" * 32, b"d" * 64)
    assert raw[304:308] == b"\7\0\11\0"
    assert library_verdict(sim, quote=raw) == ("UpToDate", [])


async def test_a_debug_enclave_says_so() -> None:
    enclave = Measurement(mrenclave=b"m" * 32, attributes=attributes(ATTRIBUTE_DEBUG))
    raw = await simulated_quoter(enclave=enclave).quote(bytes(64))
    with pytest.raises(ValueError, match="Debug mode"):
        library_verdict(simulated_platform(), quote=raw)


async def test_report_data_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="report_data has 64 bytes"):
        await simulated_quoter().quote(bytes(63))


def test_good_evidence_is_good() -> None:
    good = good_evidence(nonce=b"n" * 32)
    assert decode(good.claims_bytes) == good.claims
    assert (good.claims.nonce, good.claims.audience) == (b"n" * 32, VERIFIER)
    report = dcap_qvl.parse_quote(good.quote).report
    assert report.report_data == report_data(good.claims_bytes)
    assert report.report_data == hashlib.sha256(good.claims_bytes).digest() + bytes(32)
    assert report.mr_enclave == ENCLAVE.mrenclave
    assert library_verdict(good.platform, quote=good.quote, collateral=good.collateral) == ("UpToDate", [])


def test_any_claim_of_good_evidence_can_be_chosen() -> None:
    good = good_evidence(hpke_suite="x25519", receipt_key=b"r" * 32)
    assert (good.claims.hpke_suite, good.claims.receipt_key) == ("x25519", b"r" * 32)
