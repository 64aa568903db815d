"""A quote laid out: every byte in one field, and no field without words."""

from __future__ import annotations

import pytest

from cloister.appraisal.body import TdReport
from cloister.appraisal.quote import parse_quote
from cloister.client import quote_facts, quote_fields
from cloister_simulator.trust_domain import TrustDomain
from fakes.sim import good_evidence, simulated_platform

RAW = good_evidence().quote
RUNNING = bytes([5, 1, 7]) + bytes(13)
DOMAINS = {
    "tdx 4": (4, TrustDomain()),
    "tdx 5": (5, TrustDomain()),
    "tdx 5 of TDX 1.5": (5, TrustDomain(tee_tcb_svn2=RUNNING)),
    "tdx 5 extended": (5, TrustDomain(tee_tcb_svn2=RUNNING, extended=True)),
}
QUOTES = {
    "sgx": RAW,
    **{
        name: simulated_platform().td_quote(bytes(64), domain, version=version)
        for name, (version, domain) in DOMAINS.items()
    },
}


@pytest.mark.parametrize("kind", QUOTES)
def test_every_byte_is_in_one_field(kind: str) -> None:
    position, raw = 0, QUOTES[kind]
    for field in quote_fields(raw):
        assert field.offset == position
        assert field.raw == raw[position : position + len(field.raw)]
        position += len(field.raw)
    assert position == len(raw)


@pytest.mark.parametrize("kind", DOMAINS)
def test_the_fields_of_a_trust_domain_are_what_the_parser_reads(kind: str) -> None:
    quote = parse_quote(QUOTES[kind])
    report = quote.body
    assert isinstance(report, TdReport)
    raw = {(field.group, field.name): field.raw for field in quote_fields(QUOTES[kind])}
    domain = {name: value for (group, name), value in raw.items() if group == "The trust domain"}
    assert (domain["MRTD"], domain["MRSEAM"], domain["REPORTDATA"]) == (report.mrtd, report.mrseam, report.report_data)
    assert tuple(domain[f"RTMR{n}"] for n in range(4)) == report.rtmrs
    assert domain["TD attributes"] == report.td_attributes
    assert domain.get("TEE_TCB_SVN_2") == report.tee_tcb_svn2
    assert raw["Signature", "Signature of the quote"] == quote.signature
    assert raw["The quoting enclave that signed", "Report of the quoting enclave"] == quote.qe_report_raw
    assert raw["Certificates", "Certificate chain"] == quote.pck_chain
    words = {field.name: field.value for field in quote_fields(QUOTES[kind])}
    assert (words["TEE type"], words["TD attributes"]) == ("TDX", "SEPT_VE_DISABLE")


def test_the_fields_are_what_the_parser_reads() -> None:
    quote = parse_quote(RAW)
    raw = {(field.group, field.name): field.raw for field in quote_fields(RAW)}
    told = quote_facts(RAW)
    assert told is not None
    enclave = {name: value.hex() for (group, name), value in raw.items() if group == "The enclave"}
    assert (enclave["MRENCLAVE"], enclave["MRSIGNER"]) == (told["mrenclave"], told["mrsigner"])
    assert enclave["REPORTDATA"] == told["report_data"]
    assert raw["Signature", "Signature of the quote"] == quote.signature
    assert raw["Signature", "Attestation key"] == quote.attestation_key
    assert raw["The quoting enclave that signed", "Report of the quoting enclave"] == quote.qe_report_raw
    assert raw["Certificates", "Certificate chain"] == quote.pck_chain


def test_each_field_says_what_it_is_and_what_is_asked_of_it() -> None:
    for field in (field for raw in QUOTES.values() for field in quote_fields(raw)):
        assert field.meaning
        assert field.check
        assert 0 <= field.step <= 8
    words = {field.name: field.value for field in quote_fields(RAW)}
    assert words["Attributes: flags"] == "INIT, MODE64BIT"
    assert words["QE vendor"] == "Intel"
    assert "Root CA" in words["Certificate chain"]


def test_padding_is_a_field_too() -> None:
    last = quote_fields(RAW + bytes(7))[-1]
    assert (last.name, last.value) == ("Padding", "7 zero bytes")


@pytest.mark.parametrize("raw", [b"", b"\x03\x00", RAW[:-1], RAW + b"\x01", b"\x04" + RAW[1:]])
def test_what_is_no_quote_has_no_fields(raw: bytes) -> None:
    assert quote_fields(raw) == ()
