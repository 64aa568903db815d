from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.certs import split_pem
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.family import Family, PckCa, check_endorsed, family_of_collateral, family_of_quote
from cloister.appraisal.quote import parse_quote
from cloister.errors import EvidenceRejected
from fakes import corpus
from fakes.held_collateral import quote_of
from fakes.sim import simulated_platform


def test_a_quote_and_its_collateral_name_one_family() -> None:
    platform = simulated_platform()
    family = family_of_quote(parse_quote(quote_of(platform)))
    assert family == family_of_collateral(Collateral.parse(platform.collateral()))
    assert (family.fmspc, family.ca, str(family)) == (platform.fmspc, PckCa.PLATFORM, "sgx c10157e20000 platform")


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
def test_every_genuine_quote_of_the_corpus_names_the_family_of_its_collateral() -> None:
    families: set[Family] = set()
    for one in corpus.evaluations():
        if one.expected.verified:
            quote = parse_quote(one.quote.read_bytes())
            family = family_of_quote(quote)
            assert family == family_of_collateral(Collateral.parse(one.collateral.read_bytes())), one.name
            check_endorsed(quote, one.anchor(), one.now)
            families.add(family)
    assert len({one.tee for one in families}) == len({one.ca for one in families}) == 2
    assert len(families) >= 8


def test_a_ca_that_certifies_no_platforms() -> None:
    platform = simulated_platform()
    platform.platform_ca_subject = "Intel SGX TCB Signing"
    with pytest.raises(EvidenceRejected) as refused:
        family_of_quote(parse_quote(quote_of(platform)))
    assert (refused.value.step, refused.value.reason) == (2, "certificate.role_mismatched")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("pck_signer", "root", "chain.broken"),
        ("pck_subject", "Intel SGX TCB Signing", "certificate.role_mismatched"),
        ("platform_ca_is_ca", False, "chain.broken"),
    ],
)
def test_a_platform_that_nobody_vouches_for(field: str, value: object, reason: str) -> None:
    platform = simulated_platform()
    anchor, now = TrustAnchor("simulated", platform.root_der()), platform.window.issued_at
    check_endorsed(parse_quote(quote_of(platform)), anchor, now)
    setattr(platform, field, value)
    with pytest.raises(EvidenceRejected) as refused:
        check_endorsed(parse_quote(quote_of(platform)), anchor, now)
    assert refused.value.reason == reason


def test_the_root_may_stand_before_the_ca() -> None:
    platform = simulated_platform()
    anchor, now = TrustAnchor("simulated", platform.root_der()), platform.window.issued_at
    quote = parse_quote(quote_of(platform))
    leaf, ca, root = split_pem(quote.pck_chain)
    chains = {
        "as in some genuine quotes": (leaf, root, ca),
        "a CA in the root's place": (leaf, ca, ca),
        "a root in the CA's place": (leaf, root, root),
    }
    made = {name: replace(quote, pck_chain=b"".join(map(pem, chain))) for name, chain in chains.items()}
    check_endorsed(made.pop("as in some genuine quotes"), anchor, now)
    for broken in made.values():
        with pytest.raises(EvidenceRejected):
            check_endorsed(broken, anchor, now)


def pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
