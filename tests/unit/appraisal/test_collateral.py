"""Collateral is read one way or not at all, and the errors name the member."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from hypothesis import given
from hypothesis import strategies as st

from cloister.appraisal import strict_json
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral import MAX_COLLATERAL_BYTES, Collateral
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister.rpc.certificates import new_key
from cloister_simulator.platform import Platform
from fakes.sim import simulated_platform

CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")


def refused(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        Collateral.parse(raw)
    return error.value


def edited(sim: Platform, **members: object) -> bytes:
    whole = json.loads(sim.collateral())
    whole.update(members)
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def test_collateral_is_read(sim: Platform) -> None:
    raw = sim.collateral()
    found = Collateral.parse(raw)
    assert found.tcb_info.fmspc == sim.fmspc
    assert found.tcb_info.evaluation == sim.tcb_evaluation
    assert found.qe_identity.mrsigner == sim.qe_identity_mrsigner
    assert [level.isvsvn for level in found.qe_identity.levels] == [8, 5, 1]
    assert len(found.sha256) == 32
    assert "BEGIN CERTIFICATE" not in repr(found)


@pytest.mark.parametrize("name", sorted(json.loads(Platform.generate(datetime.now().astimezone()).collateral())))
def test_every_member_is_needed_and_typed(sim: Platform, name: str) -> None:
    for value in (..., None, 7, [], "", "zz"):
        if value == "" and name in {"root_ca_crl", "pck_crl"}:
            continue  # well-formed, and refused as a revocation list
        if value == "zz" and name in CHAINS:
            continue  # well-formed, and refused as a chain
        error = refused(edited(sim, **{name: value}))
        assert name.removesuffix("_signature") in str(error)
        assert error.reason == "collateral.malformed"


def test_others_are_refused(sim: Platform) -> None:
    assert "note" in str(refused(edited(sim, note="x")))
    assert Collateral.parse(edited(sim, pck_certificate_chain=None)).pck_certificate_chain is None


def altered_tcb_info(old: str, new: str) -> Callable[[Platform], bytes]:
    def make(sim: Platform) -> bytes:
        def alter(text: str) -> str:
            assert old in text
            return text.replace(old, new, 1)

        return sim.collateral(alter_tcb_info=alter)

    return make


def altered_qe_identity(old: str, new: str) -> Callable[[Platform], bytes]:
    def make(sim: Platform) -> bytes:
        def alter(text: str) -> str:
            assert old in text
            return text.replace(old, new, 1)

        return sim.collateral(alter_qe_identity=alter)

    return make


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (altered_tcb_info('"version":3', '"version":2'), "collateral.unsupported"),
        (altered_tcb_info('"version":3', '"version":9'), "collateral.unsupported"),
        (altered_tcb_info('"id":"SGX"', '"id":"SEV"'), "collateral.unsupported"),
        (altered_tcb_info('"id":"SGX"', '"id":"TDX"'), "collateral.malformed"),
        (altered_tcb_info('"tcbType":0', '"tcbType":9'), "collateral.unsupported"),
        (altered_tcb_info('"tcbType":0', '"tcbType":false'), "collateral.malformed"),
        (altered_tcb_info('{"svn":12},', ""), "collateral.malformed"),
        (altered_tcb_info('{"svn":12}', '{"svn":256}'), "collateral.malformed"),
        (altered_tcb_info('{"svn":12}', '{"svn":-1}'), "collateral.malformed"),
        (altered_tcb_info('{"svn":12}', '{"svn":12.0}'), "collateral.malformed"),
        (altered_tcb_info('{"svn":12}', '{"svn":NaN}'), "collateral.malformed"),
        (altered_tcb_info('{"svn":12}', '{"svn":' + "9" * 5000 + "}"), "collateral.malformed"),
        (altered_tcb_info('"UpToDate"', '"Fine"'), "collateral.malformed"),
        (altered_tcb_info('"UpToDate"', '"TDRelaunchAdvised"'), "collateral.malformed"),
        (altered_tcb_info('"UpToDate"}', '"UpToDate","tcbStatus":"Revoked"}'), "collateral.malformed"),
        (altered_tcb_info('"UpToDate"}', '"UpToDate","advisoryIDs":[7]}'), "collateral.malformed"),
        (altered_tcb_info('"tcbLevels":[', '"tcbLevels":[7,'), "collateral.malformed"),
        (altered_tcb_info('"version":3', '"version":3,"version":3'), "collateral.malformed"),
        (altered_tcb_info('"version":3', '"version":3,"x":' + "[" * 20000), "collateral.malformed"),
        (altered_tcb_info("T", "t"), "collateral.malformed"),
        (altered_tcb_info("-", "−"), "collateral.malformed"),
        (altered_qe_identity('"version":2', '"version":1'), "collateral.unsupported"),
        (altered_qe_identity('"id":"QE"', '"id":"QVE"'), "collateral.unsupported"),
        (altered_qe_identity('"FFFFFFFF"', '"FFFFFF"'), "collateral.malformed"),
        (altered_qe_identity('"UpToDate"', '"SWHardeningNeeded"'), "collateral.malformed"),
    ],
)
def test_signed_documents_have_one_meaning(sim: Platform, make: Callable[[Platform], bytes], reason: str) -> None:
    assert refused(make(sim)).reason == reason


def test_members_nobody_knows_are_tolerated_in_signed_documents(
    sim: Platform, anchor: TrustAnchor, now: datetime
) -> None:
    raw = altered_tcb_info('"version":3', '"version":3,"x_future":1')(sim)
    assert Collateral.parse(raw).verified(anchor, now).tcb_info.fmspc == sim.fmspc


def test_a_document_that_cannot_be_encoded(sim: Platform) -> None:
    raw = edited(sim, tcb_info="\ud800")
    assert b"\\ud800" in raw
    assert "tcb_info" in str(refused(raw))


def test_signatures_are_over_the_exact_text(sim: Platform, anchor: TrustAnchor, now: datetime) -> None:
    whole = json.loads(sim.collateral())
    for name in ("tcb_info", "qe_identity"):
        reformatted = json.dumps(json.loads(whole[name]), indent=1)
        collateral = Collateral.parse(edited(sim, **{name: reformatted}))
        with pytest.raises(EvidenceRejected) as rejected:
            collateral.verified(anchor, now)
        assert (rejected.value.step, rejected.value.reason) == (2, "collateral.signature_broken")


@pytest.mark.parametrize("signature", [bytes(64), b"\xff" * 64])
def test_signatures_that_are_no_points(sim: Platform, anchor: TrustAnchor, now: datetime, signature: bytes) -> None:
    collateral = Collateral.parse(edited(sim, tcb_info_signature=signature.hex()))
    with pytest.raises(EvidenceRejected, match="signature"):
        collateral.verified(anchor, now)


def pem(sim: Platform, name: str) -> str:
    return str(json.loads(sim.collateral())[name])


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_another_shape(sim: Platform, anchor: TrustAnchor, now: datetime, name: str) -> None:
    chain = pem(sim, name)
    first, second = (block + "-----END CERTIFICATE-----\n" for block in chain.split("-----END CERTIFICATE-----\n")[:2])
    for shape in (first, second, second + first, first + first, chain + second, chain * 3, chain + "x", "x" + chain):
        collateral = Collateral.parse(edited(sim, **{name: shape}))
        with pytest.raises(EvidenceRejected) as rejected:
            collateral.verified(anchor, now)
        assert rejected.value.step == 2


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_revocation_lists_are_not_optional(sim: Platform, anchor: TrustAnchor, now: datetime, name: str) -> None:
    other = {"root_ca_crl": "pck_crl", "pck_crl": "root_ca_crl"}[name]
    good = bytes.fromhex(pem(sim, name))
    for raw in (b"", b"\x30\x00", good[:-1], good + b"\x00", bytes.fromhex(pem(sim, other))):
        collateral = Collateral.parse(edited(sim, **{name: raw.hex()}))
        with pytest.raises(EvidenceRejected) as rejected:
            collateral.verified(anchor, now)
        assert rejected.value.reason in {"crl.malformed", "crl.issuer_mismatched"}


def test_size_and_depth_are_capped() -> None:
    assert "longer" in str(refused(b" " * (MAX_COLLATERAL_BYTES + 1)))
    deep = b'{"a":' * (strict_json.MAX_DEPTH + 1) + b"1" + b"}" * (strict_json.MAX_DEPTH + 1)
    with pytest.raises(InvalidRequest):
        strict_json.parse(deep, path="x", max_bytes=10_000)
    wide = b'{"a":[' + b"{}," * strict_json.MAX_CONTAINERS + b"{}]}"
    with pytest.raises(InvalidRequest):
        strict_json.parse(wide, path="x", max_bytes=100_000)
    brackets_in_text = b'{"a":"' + b"[" * 100 + b'\\""}'
    assert strict_json.parse(brackets_in_text, path="x", max_bytes=10_000).has("a")


def test_a_string_that_never_ends_is_looked_through_once() -> None:
    with pytest.raises(InvalidRequest):
        strict_json.parse(b'{"' + b'\\"' * 100_000, path="x", max_bytes=MAX_COLLATERAL_BYTES)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
            max_leaves=20,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_bytes(raw: bytes) -> None:
    assert refused(raw).reason.startswith("collateral.")


def _unknown_name(der: bytes) -> bytes:
    """A list whose authority is named in a form that no library reads, signed by anybody."""
    crl = x509.load_der_x509_crl(der)
    begin, end = crl.last_update_utc, crl.next_update_utc
    assert end is not None
    builder = x509.CertificateRevocationListBuilder(crl.issuer, begin, end)
    named = x509.UnrecognizedExtension(ExtensionOID.AUTHORITY_KEY_IDENTIFIER, bytes.fromhex("3007a105a303020105"))
    return builder.add_extension(named, critical=False).sign(new_key(), SHA256()).public_bytes(Encoding.DER)


def _no_text(der: bytes) -> bytes:
    """A list whose issuer has a name that is no text."""
    at = der.index(b"Intel SGX")
    return der[:at] + b"\xff" + der[at + 1 :]


@pytest.mark.attack("B08")
@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
@pytest.mark.parametrize("spoil", [_unknown_name, _no_text])
def test_a_revocation_list_that_cannot_be_read_whole_is_refused_as_any_other(
    sim: Platform, name: str, spoil: Callable[[bytes], bytes]
) -> None:
    found = Collateral.parse(sim.collateral())
    spoilt = edited(sim, **{name: spoil(getattr(found, name)).hex()})
    with pytest.raises(EvidenceRejected) as rejected:
        Collateral.parse(spoilt).verified(TrustAnchor("simulated", sim.root_der()), sim.window.issued_at)
    assert (rejected.value.step, rejected.value.reason) == (2, "crl.malformed")


@pytest.mark.attack("B08")
@given(at=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_revocation_list_with_any_signed_byte_changed_is_refused(at: int, value: int) -> None:
    sim = simulated_platform()
    raw = Collateral.parse(sim.collateral()).root_ca_crl
    signed = x509.load_der_x509_crl(raw).tbs_certlist_bytes
    crl, at = bytearray(raw), raw.index(signed) + at % len(signed)
    crl[at] ^= value
    changed = Collateral.parse(edited(sim, root_ca_crl=bytes(crl).hex()))
    with pytest.raises(EvidenceRejected):
        changed.verified(TrustAnchor("simulated", sim.root_der()), sim.window.issued_at)
