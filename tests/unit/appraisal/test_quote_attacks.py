"""Section A of docs/attacks.md, A01 to A13: quotes that were cut, forged, spliced or signed by somebody else."""

from __future__ import annotations

import base64
import hashlib
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.appraisal.policy import Policy
from cloister.appraisal.quote import MAX_QUOTE_BYTES, parse_quote
from cloister.errors import EvidenceRejected
from cloister_simulator.signature import raw_public_key, raw_signature
from fakes.corpus import Evaluation
from fakes.judged import broken, cost, judged, judged_of, objection, of_corpus
from fakes.quote_bytes import (
    GOOD,
    KEY,
    KIND,
    LENGTH,
    ORDER,
    PEM_END,
    QE_AUTH,
    QE_AUTH_LENGTH,
    QE_REPORT,
    QE_SIGNATURE,
    REPORT,
    SIGNATURE,
    SIM,
    chain_of,
    flipped,
    patched,
    refused,
    with_chain,
)


def test_what_these_tests_break_is_good() -> None:
    assert judged_of(SIM, quote=GOOD).believed
    assert with_chain(b"".join(chain_of()) + b"\0") == GOOD


@pytest.mark.attack("A01")
def test_a_quote_cut_at_any_point_is_malformed() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(EvidenceRejected) as error:
            parse_quote(GOOD[:length])
        assert (error.value.step, error.value.reason) == (1, "quote.malformed"), length


@pytest.mark.attack("A01")
@of_corpus("neg-*-trunc-*")
def test_quotes_that_were_cut(one: Evaluation) -> None:
    assert objection(judged(one)) == (1, "quote.malformed")


@pytest.mark.attack("A02")
@pytest.mark.parametrize(
    ("offset", "new"),
    [
        (LENGTH, bytes(4)),
        (LENGTH, b"\xff" * 4),
        (LENGTH, struct.pack("<I", len(GOOD) - SIGNATURE + 1)),
        (QE_AUTH_LENGTH, b"\xff\xff"),
        (KIND + 2, b"\xff" * 4),
    ],
    ids=["nothing signed", "without end", "one too many", "authentication data", "certificates"],
)
def test_a_length_that_lies_is_refused_before_anything_is_made_of_it(offset: int, new: bytes) -> None:
    raw = patched(offset, new)
    assert refused(raw) == (1, "quote.malformed")
    took_s, most_bytes = cost(lambda: refused_by_parser(raw))
    assert took_s < 0.05
    assert most_bytes < 4 * len(raw)


def refused_by_parser(raw: bytes) -> str:
    with pytest.raises(EvidenceRejected) as error:
        parse_quote(raw)
    return error.value.reason


@pytest.mark.attack("A02")
@of_corpus("neg-*-siglen-*", "neg-*-qe-auth-len-big:*", "neg-*-certlen-max:*")
def test_quotes_whose_lengths_lie(one: Evaluation) -> None:
    assert objection(judged(one)) == (1, "quote.malformed")


@pytest.mark.attack("A03")
def test_what_is_too_large_is_refused_by_its_size_alone() -> None:
    raw = b"\xff" * (16 << 20)
    assert refused(raw) == (1, "quote.too_large")
    took_s, most_bytes = cost(lambda: refused_by_parser(raw))
    assert took_s < 0.001
    assert most_bytes < 64 * 1024
    assert refused(GOOD + bytes(MAX_QUOTE_BYTES)) == (1, "quote.too_large")


@pytest.mark.attack("A03")
@of_corpus("neg-sgx-random-5000:*", "neg-sgx-zeros-4096:*")
def test_bytes_that_are_no_quote(one: Evaluation) -> None:
    assert objection(judged(one)) == (1, "quote.unsupported")


@pytest.mark.attack("A04")
@pytest.mark.parametrize(
    "text",
    [
        GOOD.hex().encode(),
        base64.b64encode(GOOD),
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(GOOD) + PEM_END,
        b"".join(chain_of()),
    ],
    ids=["hex", "base64", "pem", "chain"],
)
def test_text_is_not_taken_for_the_quote_it_spells(text: bytes) -> None:
    assert refused(text) == (1, "quote.unsupported")


@pytest.mark.attack("A04")
@of_corpus("neg-sgx-hex-text:*", "neg-sgx-base64-text:*")
def test_quotes_as_text(one: Evaluation) -> None:
    assert objection(judged(one)) == (1, "quote.unsupported")


@pytest.mark.attack("A05")
def test_nothing_follows_a_quote_but_zeros_and_those_only_where_a_policy_says_so() -> None:
    for tail in (b"\1", GOOD, bytes(9) + b"\1"):
        assert refused(GOOD + tail) == (1, "quote.trailing_bytes")
    padded = GOOD + bytes(70)
    assert refused(padded) == (7, "quote.padded")
    found = judged_of(SIM, quote=padded, policy=Policy(allow_zero_padding=True))
    assert found.believed
    assert found.verified is not None
    assert found.verified.quote.raw == GOOD


@pytest.mark.attack("A05")
@of_corpus("neg-*-trailing-1:*", "neg-*-two-quotes:*", "tdx4-padded-01:valid")
def test_quotes_with_something_after_them(one: Evaluation) -> None:
    assert objection(judged(one)) in {(1, "quote.trailing_bytes"), (7, "quote.padded")}


@pytest.mark.attack("A06")
@pytest.mark.parametrize("name", ["header version", "attestation key type", "tee type", "qe vendor"])
def test_a_header_of_another_kind_is_unsupported(name: str) -> None:
    found, wanted = broken(name)
    assert objection(found) == wanted


@pytest.mark.attack("A06")
@pytest.mark.parametrize("offset", [21, 31, 96, 127, 160, 262, 303])
def test_reserved_bytes_are_zero(offset: int) -> None:
    assert refused(patched(REPORT + offset, b"\1")) == (1, "quote.malformed")


@pytest.mark.attack("A06")
@of_corpus(
    "neg-*-version-*",
    "neg-*-attkey-type-3:*",
    "neg-*-tee-type:*",
    "neg-*-vendor-bit:*",
    "sim-header-*",
    "sim-vendor-zero:*",
)
def test_quotes_with_a_header_of_another_kind(one: Evaluation) -> None:
    assert objection(judged(one)) in {(1, "quote.unsupported"), (1, "qe_vendor.unknown"), (1, "quote.malformed")}


@pytest.mark.attack("A07")
def test_no_bit_of_what_is_signed_can_be_changed() -> None:
    measurement, attributes, isvsvn, report_data, user_data = REPORT + 64, REPORT + 48, REPORT + 258, REPORT + 320, 28
    for offset in (measurement, attributes, isvsvn, report_data, user_data):
        assert refused(flipped(offset)) == (4, "quote.signature_broken")


@pytest.mark.attack("A07")
@of_corpus(
    "neg-*-report-data-bit:*", "neg-*-measurement-bit:*", "neg-*-debug-bit-flipped:*", "neg-*-isvsvn-raised:*",
    "neg-*-user-data-bit:*",
)  # fmt: skip
def test_quotes_with_a_bit_changed(one: Evaluation) -> None:
    assert objection(judged(one)) == (4, "quote.signature_broken")


@pytest.mark.attack("A08")
def test_a_signature_covers_one_report() -> None:
    other = SIM.quote(bytes(64), mrenclave=b"\7" * 32)
    assert refused(other[:LENGTH] + GOOD[LENGTH:]) == (4, "quote.signature_broken")


@pytest.mark.attack("A08")
@of_corpus("neg-*-report-spliced:*")
def test_quotes_with_another_report(one: Evaluation) -> None:
    assert objection(judged(one)) == (4, "quote.signature_broken")


@pytest.mark.attack("A09")
def test_a_thief_s_attestation_key_is_not_the_one_the_quoting_enclave_named() -> None:
    thief = ec.generate_private_key(ec.SECP256R1())
    raw = patched(SIGNATURE, raw_signature(thief, GOOD[:LENGTH]) + raw_public_key(thief))
    assert refused(raw) == (3, "qe_report.data_mismatched")


@pytest.mark.attack("A09")
@of_corpus("neg-*-ak-substituted:*", "sim-ak-mismatch:*")
def test_quotes_signed_by_another_key(one: Evaluation) -> None:
    assert objection(judged(one)) == (3, "qe_report.data_mismatched")


@pytest.mark.attack("A10")
@pytest.mark.parametrize("point", [bytes(64), b"\xff" * 64, bytes(63) + b"\1"])
def test_a_key_that_is_no_point_is_refused_even_where_the_quoting_enclave_names_it(point: bytes) -> None:
    report = bytearray(GOOD[QE_REPORT:QE_SIGNATURE])
    report[320:384] = hashlib.sha256(point + GOOD[QE_AUTH:KIND]).digest() + bytes(32)
    signed = bytes(report) + raw_signature(SIM.keys.pck, bytes(report))
    assert refused(patched(KEY, point + signed)) == (4, "quote.signature_broken")


@pytest.mark.attack("A10")
@pytest.mark.parametrize("signature", [bytes(64), b"\xff" * 64, ORDER.to_bytes(32, "big") + b"\1" * 32])
def test_a_signature_out_of_range_is_refused(signature: bytes) -> None:
    assert refused(patched(SIGNATURE, signature)) == (4, "quote.signature_broken")
    assert refused(patched(QE_SIGNATURE, signature)) == (3, "qe_report.signature_broken")


@pytest.mark.attack("A10")
@of_corpus("neg-*-ak-off-curve:*", "neg-*-sig-zero:*", "neg-*-sig-r-ge-n:*", "neg-sgx-sig-bit:*")
def test_quotes_with_numbers_out_of_range(one: Evaluation) -> None:
    assert objection(judged(one)) in {(4, "quote.signature_broken"), (3, "qe_report.data_mismatched")}


@pytest.mark.attack("A11")
@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        (QE_REPORT + 64, "qe_report.signature_broken"),
        (QE_SIGNATURE + 5, "qe_report.signature_broken"),
        (QE_AUTH, "qe_report.data_mismatched"),
    ],
)
def test_what_the_quoting_enclave_says_cannot_be_changed(offset: int, reason: str) -> None:
    assert refused(flipped(offset)) == (3, reason)


@pytest.mark.attack("A11")
@of_corpus("neg-*-qe-report-bit:*", "neg-*-qe-sig-bit:*", "neg-*-qe-auth-bit:*")
def test_quotes_whose_quoting_enclave_was_changed(one: Evaluation) -> None:
    assert objection(judged(one))[0] == 3


@pytest.mark.attack("A12")
@pytest.mark.parametrize(
    "name",
    ["qe of another signer", "qe of another product", "qe in debug mode", "qe without its key", "qe below all levels"],
)
def test_only_the_quoting_enclave_that_is_known_vouches(name: str) -> None:
    found, wanted = broken(name)
    assert objection(found) == wanted
    assert wanted[0] == 3


@pytest.mark.attack("A12")
@of_corpus("sim-qe-mrsigner:*", "sim-qe-prodid:*", "sim-qe-debug:*", "sim-qe-below-all:*")
def test_quotes_of_another_quoting_enclave(one: Evaluation) -> None:
    assert objection(judged(one)) in {(3, "qe_identity.mismatched"), (3, "qe_identity.level_missing")}


@pytest.mark.attack("A13")
@pytest.mark.parametrize("name", ["qe report data padding", "qe auth data empty", "qe auth data of 64 bytes"])
def test_the_quoting_enclave_s_words_have_one_form(name: str) -> None:
    found, wanted = broken(name)
    assert objection(found) == wanted


@pytest.mark.attack("A13")
@of_corpus("sim-qe-reportdata-padding:*", "sim-qe-auth-*")
def test_quotes_whose_quoting_enclave_says_more(one: Evaluation) -> None:
    assert objection(judged(one)) in {(3, "qe_report.data_mismatched"), (3, "qe_auth_data.malformed")}
