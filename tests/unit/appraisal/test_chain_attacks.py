"""Section A of docs/attacks.md, A14 to A22: chains of others, broken, endless or revoked; quotes spelt otherwise."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.appraisal.anchors import INTEL_SGX
from cloister.appraisal.policy import Policy
from cloister.appraisal.quote import MAX_QUOTE_BYTES
from cloister.client import judge
from cloister_simulator.platform import Platform
from fakes.corpus import Evaluation
from fakes.judged import NOW, broken, cost, judged, judged_of, objection, of_corpus
from fakes.quote_bytes import (
    GOOD,
    KIND,
    LENGTH,
    QE_SIGNATURE,
    SIGNATURE,
    SIM,
    chain_of,
    malleated,
    patched,
    refused,
    with_chain,
)


def another_platform() -> Platform:
    """Another machine under the same root."""
    other = SIM.copy()
    fresh = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    other.keys = replace(SIM.keys, pck=next(fresh), attestation=next(fresh))
    return other


@pytest.mark.attack("A14")
def test_another_genuine_platform_s_certificate_does_not_vouch() -> None:
    other = another_platform()
    theirs = other.quote(bytes(64))
    assert judged_of(SIM, quote=theirs).believed
    assert refused(with_chain(b"".join(chain_of(theirs)) + b"\0")) == (3, "qe_report.signature_broken")


@pytest.mark.attack("A14")
def test_a_certificate_in_the_collateral_does_not_replace_the_quote_s_own() -> None:
    theirs, own = (b"".join(chain).decode() for chain in (chain_of(another_platform().quote(bytes(64))), chain_of()))
    assert objection(judged_of(SIM, quote=GOOD, collateral=bringing(theirs))) == (2, "chain.ambiguous")
    assert judged_of(SIM, quote=GOOD, collateral=bringing(own)).believed


def bringing(chain: str) -> bytes:
    return json.dumps({**json.loads(SIM.collateral()), "pck_certificate_chain": chain}).encode()


@pytest.mark.attack("A14")
@of_corpus("neg-*-pck-of-other-platform:*", "col-*-pckchain-of-other-platform:*")
def test_quotes_with_the_chain_of_another_platform(one: Evaluation) -> None:
    assert objection(judged(one)) in {
        (3, "qe_report.signature_broken"),
        (2, "chain.ambiguous"),
        (2, "certificate.expired"),
    }


@pytest.mark.attack("A15")
def test_a_chain_has_one_order_and_no_gaps() -> None:
    leaf, ca, root = chain_of()
    for chain in ([root, ca, leaf], [leaf, root], [leaf, ca], [ca, root], [ca, leaf, root], [leaf, leaf, root]):
        step, reason = refused(with_chain(b"".join(chain) + b"\0"))
        assert step == 2
        assert reason in {"chain.broken", "anchor.untrusted", "certificate.role_mismatched"}
    spoilt = leaf[:200] + b"*" + leaf[201:]
    assert refused(with_chain(spoilt + ca + root))[0] == 2


@pytest.mark.attack("A15")
def test_an_intermediate_is_a_ca_on_the_right_curve() -> None:
    found, wanted = broken("platform ca is no ca")
    assert objection(found) == wanted
    p384 = SIM.copy()
    p384.keys = replace(SIM.keys, platform_ca=ec.generate_private_key(ec.SECP384R1()))
    raw = p384.quote(bytes(64))
    assert refused(raw) == (2, "certificate.algorithm_refused")


@pytest.mark.attack("A15")
@of_corpus(
    "neg-*-chain-reversed:*", "neg-*-chain-no-intermediate:*", "neg-*-pem-corrupt:*", "sim-platform-not-ca:*",
    "sim-platform-p384:*",
)  # fmt: skip
def test_quotes_with_a_broken_chain(one: Evaluation) -> None:
    step, reason = objection(judged(one))
    assert step == 2
    assert reason.split(".")[0] in {"chain", "certificate", "anchor"}


@pytest.mark.attack("A16")
@pytest.mark.parametrize("copies", [2, 20])
def test_a_chain_that_is_too_long_costs_no_time(copies: int) -> None:
    raw = with_chain(b"".join(chain_of() * copies))
    endorsed = judged_of(SIM).verified
    assert endorsed is not None
    assert refused(raw) == (2, "chain.too_long") if len(raw) <= MAX_QUOTE_BYTES else (1, "quote.too_large")
    assert cost(lambda: judged_of(SIM, quote=raw))[0] < 0.05


@pytest.mark.attack("A16")
@of_corpus("neg-sgx-chain-x60:*")
def test_a_chain_of_sixty(one: Evaluation) -> None:
    assert objection(judged(one)) == (2, "chain.too_long")
    assert cost(lambda: judged(one))[0] < 0.05


@pytest.mark.attack("A17")
def test_a_root_that_only_looks_like_intels_is_none() -> None:
    private = Platform.generate(NOW)
    found = judge(private.quote(bytes(64)), private.collateral(), INTEL_SGX, Policy.default(), NOW)
    assert objection(found)[0] == 2
    assert not found.anchor.simulated
    mixed = judged_of(SIM, quote=private.quote(bytes(64)))
    assert objection(mixed) == (2, "anchor.untrusted")


@pytest.mark.attack("A17")
@of_corpus("*-otherroot-*", "sim-good:intel_root_only")
def test_quotes_under_another_root(one: Evaluation) -> None:
    step, reason = objection(judged(one))
    assert step == 2
    assert reason in {"anchor.untrusted", "chain.broken", "crl.issuer_mismatched"}


@pytest.mark.attack("A18")
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 6, 7, 0, 0xFFFF])
def test_a_quote_without_its_certificates_is_refused_and_nobody_is_asked_for_them(kind: int) -> None:
    """A unit test opens no socket: a fixture forbids it."""
    assert refused(patched(KIND, struct.pack("<H", kind))) == (1, "pck_chain.missing")


@pytest.mark.attack("A18")
@of_corpus("sgx-ct3-*", "neg-*-cert-type-*")
def test_quotes_without_certificates(one: Evaluation) -> None:
    assert objection(judged(one)) == (1, "pck_chain.missing")


@pytest.mark.attack("A19")
@pytest.mark.parametrize("name", ["pck revoked", "platform ca revoked", "tcb signer revoked"])
def test_who_is_revoked_vouches_for_nothing(name: str) -> None:
    found, wanted = broken(name)
    assert objection(found) == wanted == (2, "certificate.revoked")


@pytest.mark.attack("A19")
@of_corpus("sim-revoked-pck:*", "sim-revoked-platform-ca:*", "sim-revoked-tcb-signer:*")
def test_quotes_of_the_revoked(one: Evaluation) -> None:
    assert objection(judged(one)) == (2, "certificate.revoked")


@pytest.mark.attack("A20")
@pytest.mark.parametrize("name", ["pck expired", "platform ca expired", "tcb signer expired"])
def test_who_has_expired_vouches_for_nothing(name: str) -> None:
    found, wanted = broken(name)
    assert objection(found) == wanted == (2, "certificate.expired")


@pytest.mark.attack("A20")
@of_corpus("sim-pck-expired:*", "sim-tcbsigner-expired:*")
def test_quotes_of_the_expired(one: Evaluation) -> None:
    assert objection(judged(one)) == (2, "certificate.expired")


@pytest.mark.attack("A21")
@pytest.mark.parametrize("at", [SIGNATURE, QE_SIGNATURE])
def test_the_other_of_two_signatures_is_as_good_and_says_the_same(at: int) -> None:
    other, found, good = malleated(at=at), judged_of(SIM, quote=malleated(at=at)), judged_of(SIM, quote=GOOD)
    assert other != GOOD
    assert found.believed
    assert found.verified is not None
    assert good.verified is not None
    assert found.verified.quote.signed == good.verified.quote.signed


@pytest.mark.attack("A21")
@of_corpus("mal-sgx-ecdsa-s:*")
def test_a_malleated_quote(one: Evaluation) -> None:
    assert judged(one).believed


def respelt() -> list[bytes]:
    """The same quote with other bytes where none count."""
    leaf, ca, root = chain_of()
    sim_root = x509.load_pem_x509_certificate(root)
    again = (
        x509.CertificateBuilder(sim_root.subject, sim_root.subject, SIM.keys.root.public_key(), 99)
        .not_valid_before(sim_root.not_valid_before_utc)
        .not_valid_after(sim_root.not_valid_after_utc)
    )
    for extension in sim_root.extensions:
        again = again.add_extension(extension.value, extension.critical)
    other_root = again.sign(SIM.keys.root, hashes.SHA256()).public_bytes(Encoding.PEM)
    return [
        with_chain(leaf + ca + root),
        with_chain(b"\n\n".join([leaf, ca, root]) + b"\0"),
        with_chain(b"".join([leaf, ca, root]).replace(b"\n", b"\r\n") + b"\0"),
        with_chain(leaf + ca + other_root + b"\0"),
    ]


@pytest.mark.attack("A22")
def test_a_quote_spelt_otherwise_says_the_same() -> None:
    for raw in respelt():
        found = judged_of(SIM, quote=raw)
        assert raw != GOOD
        assert found.verified is not None, found.refusal
        assert found.verified.quote.signed == GOOD[:LENGTH]
        assert found.verified.platform.ppid == SIM.ppid
