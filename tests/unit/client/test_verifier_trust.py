"""A verifier is believed by its own evidence, and each thing that may be wrong with it is refused by its name."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from cloister.api.v1.evidence_pb2 import Evidence, EvidenceBundle
from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.policy import CONTRAINDICATED, Policy
from cloister.appraisal.reference import PlatformMode, PlatformRule, ReferenceValue
from cloister.client.bundle import TrustBundle
from cloister.client.floors import Floors
from cloister.client.pinned import PinnedBy
from cloister.client.verifier_site import Offered
from cloister.client.verifier_trust import (
    attested_bundle,
    believe_verifier,
    check_fingerprint,
    fingerprint_bundle,
    renewed,
)
from cloister.ear import SigningKey
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister.evidence.mesh_trust import root_ders
from fakes import corpus
from fakes.key_ring import SignedKeys
from fakes.pki import MeshPki
from fakes.public_verifier import MRENCLAVE, VerifierVisit, jwks, verifier_visit
from fakes.sim import VERIFIER_ENCLAVE, good_evidence

NOW = datetime.now(UTC)


@pytest.fixture
def visit() -> VerifierVisit:
    return verifier_visit()


def test_a_good_one_gives_a_bundle_that_says_how_it_was_pinned(visit: VerifierVisit) -> None:
    bundle = attested_bundle(visit.trust, visit.judge())
    assert (bundle.cluster, bundle.verifier_id) == (visit.trust.cluster, visit.trust.verifier_id)
    assert (bundle.root_ca_pem, bundle.thumbprints) == (visit.trust.root_ca_pem, visit.trust.thumbprints)
    assert bundle.anchor.simulated
    assert bundle.pinned is not None
    assert (bundle.pinned.by, bundle.pinned.verifier_mrenclave) == (PinnedBy.ATTESTED, MRENCLAVE)
    assert bundle.pinned.policy_digest == visit.trust.policy_digest.hex()
    assert not bundle.pinned.is_weak
    assert TrustBundle.from_json(bundle.to_json()) == bundle


def test_nothing_is_pinned_that_nothing_vouched_for(visit: VerifierVisit) -> None:
    """Whoever can change the document on its way can add what no digest covers; it does not get into the bundle."""
    (key,) = json.loads(visit.trust.jwks)["keys"]
    decorated = json.dumps({"keys": [{**key, "x5u": "https://attacker.example"}], "next": "https://attacker.example"})
    pem = f"Comment: attacker.example\n{visit.trust.root_ca_pem}"
    came = replace(visit.trust, jwks=decorated, root_ca_pem=pem)
    assert came.digest() == visit.trust.digest()
    appraisal = visit.judge(trust=came)
    assert attested_bundle(came, appraisal) == attested_bundle(visit.trust, appraisal)
    assert b"attacker" not in attested_bundle(came, appraisal).to_json()


@pytest.mark.attack("D07")
def test_a_genuine_quote_of_somebody_elses_enclave_is_no_evidence(visit: VerifierVisit) -> None:
    genuine = next((one for one in corpus.evaluations() if one.expected.accepted and one.anchor() is INTEL_SGX), None)
    if genuine is None:
        pytest.skip(corpus.ABSENT)
    trust = replace(visit.trust, anchor_root_der=INTEL_SGX.root_der)
    evidence = Evidence(claims=visit.evidence().claims_bytes, quote=genuine.quote.read_bytes())
    bundle = EvidenceBundle(evidence=evidence, collateral=genuine.collateral.read_bytes())
    offered = Offered(nonce=visit.nonce, bundle=bundle, trust=trust, tls_spki_sha256=visit.spki_sha256)
    with pytest.raises(EvidenceRejected) as refused:
        believe_verifier(offered, {MRENCLAVE}, Policy.default(), INTEL_SGX, genuine.now)
    assert (refused.value.step, refused.value.reason) == (5, "claims.unbound")


def test_reference_values_of_a_policy_name_a_build_as_well(visit: VerifierVisit) -> None:
    visit.mrenclave = ()
    visit.policy = Policy(reference_values=(ReferenceValue(mrenclave=VERIFIER_ENCLAVE.mrenclave),))
    assert visit.judge().mrenclave == VERIFIER_ENCLAVE.mrenclave


def other_root(visit: VerifierVisit) -> None:
    visit.claimed["config_digest"] = visit.trust.digest()
    visit.trust = replace(visit.trust, root_ca_pem=MeshPki().roots_pem.decode())


def other_keys(visit: VerifierVisit) -> None:
    visit.claimed["config_digest"] = visit.trust.digest()
    key = SigningKey.generate()
    visit.trust = replace(visit.trust, jwks=jwks(key), thumbprints=frozenset({key.kid}))


def other_keys_under_the_old_thumbprints(visit: VerifierVisit) -> None:
    visit.trust = replace(visit.trust, jwks=jwks(SigningKey.generate()))


def other_policy(visit: VerifierVisit) -> None:
    visit.claimed["config_digest"] = visit.trust.digest()
    visit.trust = replace(visit.trust, policy_digest=bytes(32))


def unnamed_build(visit: VerifierVisit) -> None:
    visit.mrenclave = ("ab" * 32,)


def no_build_named(visit: VerifierVisit) -> None:
    visit.mrenclave = ()


def debug(visit: VerifierVisit) -> None:
    visit.platform.debug = True


def other_platform(visit: VerifierVisit) -> None:
    rule = PlatformRule(mode=PlatformMode.ENFORCE, allow=frozenset({secrets.token_bytes(16)}))
    visit.policy = Policy(platforms=rule)


def other_mesh(visit: VerifierVisit) -> None:
    visit.claimed.update(cluster="other.example", spiffe_id="spiffe://other.example/verifier/one")


def workers_by_another_root(visit: VerifierVisit) -> None:
    visit.trust = replace(visit.trust, anchor_root_der=INTEL_SGX.root_der)


BREAKS: list[tuple[Callable[[VerifierVisit], None], int, str]] = [
    (other_root, 5, "claims.config_digest_mismatched"),
    (other_policy, 5, "claims.config_digest_mismatched"),
    (unnamed_build, 0, "measurement.unknown"),
    (no_build_named, 0, "measurement.unpinned"),
    (debug, 7, "enclave.debug"),
    (workers_by_another_root, 0, "anchor.other"),
    (lambda visit: visit.claimed.update(nonce=bytes(32)), 5, "claims.nonce_mismatched"),
    (
        lambda visit: visit.claimed.update(cluster="o.x", spiffe_id="spiffe://o.x/verifier/one"),
        5,
        "claims.cluster_mismatched",
    ),
]


@pytest.mark.parametrize(("broken", "step", "reason"), BREAKS)
def test_one_thing_wrong_is_enough(
    visit: VerifierVisit, broken: Callable[[VerifierVisit], None], step: int, reason: str
) -> None:
    broken(visit)
    with pytest.raises(EvidenceRejected) as refused:
        visit.judge()
    assert (refused.value.step, refused.value.reason) == (step, reason)


@pytest.mark.attack("E09")
@pytest.mark.parametrize(
    ("broken", "reason"),
    [(other_keys, "claims.config_digest_mismatched"), (other_keys_under_the_old_thumbprints, "keys.other")],
)
def test_keys_that_the_enclave_did_not_vouch_for_are_not_pinned(
    visit: VerifierVisit, broken: Callable[[VerifierVisit], None], reason: str
) -> None:
    broken(visit)
    with pytest.raises(EvidenceRejected) as refused:
        visit.judge()
    assert refused.value.reason == reason


@pytest.mark.attack("D07")
def test_evidence_relayed_over_another_tls_key_is_refused(visit: VerifierVisit) -> None:
    evidence = visit.evidence()
    with pytest.raises(EvidenceRejected) as refused:
        visit.judge(evidence, tls_spki_sha256=secrets.token_bytes(32))
    assert (refused.value.step, refused.value.reason) == (5, "claims.tls_spki_sha256_mismatched")


@pytest.mark.attack("D06")
def test_a_workers_evidence_makes_nobody_a_verifier(visit: VerifierVisit) -> None:
    worker = good_evidence(
        platform=visit.platform,
        enclave=VERIFIER_ENCLAVE,
        nonce=visit.nonce,
        audience=visit.trust.verifier_id,
        config_digest=visit.trust.digest(),
        tls_spki_sha256=visit.spki_sha256,
    )
    with pytest.raises(EvidenceRejected) as refused:
        visit.judge(worker)
    assert (refused.value.step, refused.value.reason) == (5, "claims.role_mismatched")


@pytest.mark.attack("D08")
def test_a_genuine_processor_that_is_not_listed_is_refused(visit: VerifierVisit) -> None:
    other_platform(visit)
    with pytest.raises(EvidenceRejected) as refused:
        visit.judge()
    assert refused.value.step == 7
    assert refused.value.reason.startswith("platform.")


@pytest.mark.attack("C11")
def test_a_simulated_verifier_is_nobody_under_intels_root(visit: VerifierVisit) -> None:
    visit.anchor = INTEL_SGX
    visit.trust = replace(visit.trust, anchor_root_der=INTEL_SGX.root_der)
    with pytest.raises(EvidenceRejected) as refused:
        visit.judge()
    assert refused.value.step == 2


@pytest.mark.attack("C11")
def test_nothing_that_a_simulated_verifier_says_makes_it_genuine(visit: VerifierVisit) -> None:
    appraisal = visit.judge()
    assert (appraisal.simulated, appraisal.hardware) == (True, CONTRAINDICATED)
    content = attested_bundle(visit.trust, appraisal).to_json().replace(b'"simulated": true', b'"simulated": false')
    with pytest.raises(InvalidRequest, match="only Intel's root is not simulated"):
        TrustBundle.from_json(content)


def fingerprint(pki: MeshPki) -> str:
    return sha256(root_ders(pki.roots_pem.decode())[0]).hexdigest()


def weak(visit: VerifierVisit, pki: MeshPki | None = None) -> TrustBundle:
    anchor = attested_bundle(visit.trust, visit.judge()).anchor
    return fingerprint_bundle(visit.trust, (pki or visit.pki).roots_pem.decode(), anchor, NOW)


def test_of_the_roots_that_came_only_the_named_one_is_pinned(visit: VerifierVisit) -> None:
    both = replace(visit.trust, root_ca_pem=MeshPki().roots_pem.decode() + visit.trust.root_ca_pem)
    assert check_fingerprint(both, {fingerprint(visit.pki)}) == visit.trust.root_ca_pem
    with pytest.raises(EvidenceRejected) as refused:
        check_fingerprint(both, {"ab" * 32})
    assert refused.value.reason == "fingerprint.other"


def test_a_pin_by_fingerprint_is_marked_as_what_it_is(visit: VerifierVisit) -> None:
    bundle = weak(visit)
    assert bundle.pinned is not None
    assert bundle.pinned.is_weak
    assert bundle.pinned.verifier_mrenclave is None
    assert TrustBundle.from_json(bundle.to_json()) == bundle
    with pytest.raises(EvidenceRejected) as refused:
        fingerprint_bundle(visit.trust, visit.trust.root_ca_pem, INTEL_SGX, NOW)
    assert refused.value.reason == "anchor.other"


@pytest.mark.attack("G14")
def test_a_pin_made_again_keeps_what_its_owner_named(visit: VerifierVisit) -> None:
    named = {"mrenclave": frozenset({"ab" * 32}), "owners": frozenset({"cd" * 32})}
    floors = Floors(seal_version=2)
    old = replace(attested_bundle(visit.trust, visit.judge()), **named, verifier_policies=frozenset({"ef" * 32}))
    old = replace(old, floors=floors)
    key = SigningKey.generate()
    visit.trust = replace(visit.trust, jwks=jwks(key), thumbprints=frozenset({key.kid}))
    new = renewed(attested_bundle(visit.trust, visit.judge()), old, new_keys=False)
    assert (new.mrenclave, new.owners, new.verifier_policies) == (*named.values(), old.verifier_policies)
    assert new.thumbprints == {key.kid}
    assert new.floors == floors


def test_another_mesh_does_not_take_the_place_of_the_one_that_was_pinned(visit: VerifierVisit) -> None:
    bundle = weak(visit)
    other = replace(bundle, cluster="other.example", verifier_id="spiffe://other.example/verifier/one")
    with pytest.raises(EvidenceRejected) as refused:
        renewed(other, bundle, new_keys=True)
    assert refused.value.reason == "cluster.other"


def test_a_pin_by_evidence_is_not_weakened(visit: VerifierVisit) -> None:
    with pytest.raises(EvidenceRejected) as refused:
        renewed(weak(visit), attested_bundle(visit.trust, visit.judge()), new_keys=True)
    assert refused.value.reason == "pin.weakened"


@pytest.mark.attack("E09")
def test_keys_that_no_evidence_vouches_for_are_not_replaced_unasked(visit: VerifierVisit) -> None:
    old = weak(visit)
    key = SigningKey.generate()
    visit.trust = replace(visit.trust, jwks=jwks(key), thumbprints=frozenset({key.kid}))
    with pytest.raises(EvidenceRejected) as refused:
        renewed(weak(visit), old, new_keys=False)
    assert refused.value.reason == "keys.other"
    assert renewed(weak(visit), old, new_keys=True).thumbprints == {key.kid}


def test_collateral_comes_with_the_evidence_and_is_judged_with_it(visit: VerifierVisit) -> None:
    visit.platform.reissue(NOW - timedelta(days=40))
    with pytest.raises(EvidenceRejected) as refused:
        visit.judge()
    assert refused.value.step == 2


@pytest.fixture
def ring(visit: VerifierVisit) -> SignedKeys:
    """The verifier's keys, named by people whom its trust document names."""
    made = SignedKeys(issuer=visit.trust.verifier_id)
    visit.trust = replace(
        visit.trust,
        jwks=jwks(made.old),
        thumbprints=frozenset({made.old.kid}),
        key_signers=made.signers.keys,
        key_threshold=made.signers.threshold,
        key_set=made.first(),
    )
    return made


@pytest.mark.attack("J08")
def test_a_pin_follows_those_who_name_the_verifiers_keys(visit: VerifierVisit, ring: SignedKeys) -> None:
    bundle = attested_bundle(visit.trust, visit.judge())
    assert bundle.signers == ring.signers
    assert bundle.learned(ring.second()).keys().thumbprints == {ring.old.kid, ring.new.kid}
    assert TrustBundle.from_json(bundle.to_json()).to_json() == bundle.to_json()


@pytest.mark.attack("E09")
def test_who_may_name_the_keys_is_part_of_what_evidence_vouches_for(visit: VerifierVisit, ring: SignedKeys) -> None:
    vouched = visit.evidence()
    thief = SignedKeys(issuer=ring.issuer, old=ring.old)
    visit.trust = replace(visit.trust, key_signers=thief.signers.keys, key_set=thief.first())
    with pytest.raises(EvidenceRejected) as refused:
        visit.judge(vouched)
    assert refused.value.reason == "claims.config_digest_mismatched"


@pytest.mark.attack("E09")
def test_keys_that_nobody_named_are_not_pinned(visit: VerifierVisit, ring: SignedKeys) -> None:
    for changes, reason in (
        ({"key_set": SignedKeys(issuer=ring.issuer).first()}, "keys.unsigned"),
        ({"jwks": jwks(ring.new), "thumbprints": frozenset({ring.new.kid})}, "keys.other"),
        ({"key_threshold": 2}, "keys.malformed"),
    ):
        good = visit.trust
        visit.trust = replace(good, **changes)  # type: ignore[arg-type]
        with pytest.raises(EvidenceRejected) as refused:
            visit.judge()
        assert refused.value.reason == reason
        visit.trust = good


def test_a_weak_pin_made_again_goes_with_the_same_people_and_not_with_others(
    visit: VerifierVisit, ring: SignedKeys
) -> None:
    anchor = TrustAnchor("simulated", visit.platform.root_der())
    old = fingerprint_bundle(visit.trust, visit.trust.root_ca_pem, anchor, NOW)
    both = frozenset({ring.old.kid, ring.new.kid})
    rotated = replace(visit.trust, jwks=jwks(ring.old, ring.new), thumbprints=both, key_set=ring.second())
    new = renewed(fingerprint_bundle(rotated, rotated.root_ca_pem, anchor, NOW), old, new_keys=False)
    assert new.keys().thumbprints == both
    again = renewed(old, new, new_keys=False)
    assert again.keys().thumbprints == both  # an older set does not come back
    thief = SignedKeys(issuer=ring.issuer, old=ring.old)
    stolen = replace(visit.trust, key_signers=thief.signers.keys, key_set=thief.first())
    with pytest.raises(EvidenceRejected) as refused:
        renewed(fingerprint_bundle(stolen, stolen.root_ca_pem, anchor, NOW), old, new_keys=False)
    assert refused.value.reason == "keys.other"
