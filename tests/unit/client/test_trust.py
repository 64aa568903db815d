"""Every reason there is not to believe a worker, one at a time; the valid one first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloister.api.v1.gateway_pb2 import ServingWorker
from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.client import Floors, anchor_of, believe
from cloister.client.trust import check_believable
from cloister.ear import AttestationResult
from cloister.errors import CloisterError, EvidenceRejected
from cloister.evidence.binding import encode
from cloister_simulator.measurement import Measurement
from fakes.serving import DIGEST, MODEL, OWNER_KEY, FakeVerifier, FakeWorker, signed_manifest
from fakes.sim import CLUSTER, ENCLAVE, simulated_platform


@pytest.fixture
def verifier() -> FakeVerifier:
    return FakeVerifier()


def now() -> datetime:
    return datetime.now(UTC)


def test_a_good_worker_is_believed_with_its_keys(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier)
    found = believe(worker.serving(), MODEL, verifier.trust(), now())
    assert found.instance == worker.instance
    assert found.result.hpke_public == worker.evidence.hpke.public
    assert found.result.receipt_key == worker.evidence.claims.receipt_key
    assert (found.model_version, found.model_digest) == (worker.version, worker.digest)
    assert found.simulated
    assert worker.token not in repr(found)


def test_measurements_that_are_pinned_must_match(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier)
    pinned = verifier.trust(mrenclave=frozenset({ENCLAVE.mrenclave.hex()}))
    assert believe(worker.serving(), MODEL, pinned, now()).instance == worker.instance
    with pytest.raises(EvidenceRejected) as refused:
        believe(worker.serving(), MODEL, verifier.trust(mrenclave=frozenset({"ab" * 32})), now())
    assert refused.value.reason == "measurement.unknown"


def test_a_policy_of_the_verifier_counts_unless_the_bundle_names_others(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier)
    digest = worker.result.policy_digest.hex()
    for accepted in (None, frozenset({digest}), frozenset({digest, "ab" * 32})):
        trust = verifier.trust(verifier_policies=accepted)
        assert believe(worker.serving(), MODEL, trust, now()).instance == worker.instance
    with pytest.raises(EvidenceRejected, match=f"--verifier-policy {digest}") as refused:
        believe(worker.serving(), MODEL, verifier.trust(verifier_policies=frozenset({"ab" * 32})), now())
    assert refused.value.reason == "policy.other"


OTHER_ENCLAVE = Measurement(mrenclave=bytes([0x66] * 32), mrsigner=bytes([0x67] * 32))


def test_an_enclave_that_nobody_pinned_is_refused_though_the_verifier_accepts_it(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier, enclave=OTHER_ENCLAVE)
    with pytest.raises(EvidenceRejected) as refused:
        believe(worker.serving(), MODEL, verifier.trust(), now())
    assert refused.value.reason == "measurement.unknown"


@pytest.mark.parametrize("policy", [None, 'policy_id = "names-no-code"\n'])
@pytest.mark.parametrize("anchor", [INTEL_SGX, anchor_of(simulated_platform().root_der())])
def test_a_bundle_that_pins_no_code_believes_nobody(
    verifier: FakeVerifier, anchor: TrustAnchor, policy: str | None
) -> None:
    unpinned = verifier.trust(mrenclave=None, anchor=anchor, policy_toml=policy)
    worker = FakeWorker(verifier)
    result = replace(worker.result, simulated=anchor.simulated)
    with pytest.raises(EvidenceRejected, match="cloister trust accept --mrenclave") as refused:
        check_believable(result, unpinned)
    assert refused.value.reason == "measurement.unpinned"
    if anchor.simulated:
        with pytest.raises(EvidenceRejected) as refused:
            believe(worker.serving(), MODEL, unpinned, now())
        assert refused.value.reason == "measurement.unpinned"


def policy_for(enclave: Measurement) -> str:
    return f'''policy_id = "ours"
[[reference_values]]
mrsigner = "{enclave.mrsigner.hex()}"
isvprodid = {enclave.isvprodid}
minimum_isvsvn = {enclave.isvsvn}
'''


def test_reference_values_of_the_clients_own_policy_pin_code_too(verifier: FakeVerifier) -> None:
    trust = verifier.trust(mrenclave=None, policy_toml=policy_for(ENCLAVE))
    assert believe(FakeWorker(verifier).serving(), MODEL, trust, now()).appraisal.executables > 0
    with pytest.raises(EvidenceRejected) as refused:
        believe(FakeWorker(verifier, enclave=OTHER_ENCLAVE).serving(), MODEL, trust, now())
    assert refused.value.reason == "measurement.unknown"


# Floors


@pytest.mark.attack("G14")
def test_an_older_worker_image_is_refused_and_the_floor_is_named(verifier: FakeVerifier) -> None:
    trust = verifier.trust(mrenclave=None, policy_toml=policy_for(ENCLAVE))
    older = FakeWorker(verifier, enclave=replace(ENCLAVE, isvsvn=ENCLAVE.isvsvn - 1))
    said = f"security version {ENCLAVE.isvsvn - 1}, below the floor of the trust bundle's policy, {ENCLAVE.isvsvn}"
    with pytest.raises(EvidenceRejected, match=said) as refused:
        believe(older.serving(), MODEL, trust, now())
    assert refused.value.reason == "measurement.below_floor"


@pytest.mark.attack("G14")
def test_a_suite_without_post_quantum_keys_is_refused_unless_the_bundle_allows_it(verifier: FakeVerifier) -> None:
    classical = FakeWorker(verifier)
    assert believe(classical.serving(), MODEL, verifier.trust(), now()).result.hpke_suite == "x25519"
    with pytest.raises(EvidenceRejected, match="by 'x25519', below the floor of the trust bundle, 'xwing'") as refused:
        believe(classical.serving(), MODEL, verifier.trust(floors=Floors()), now())
    assert refused.value.reason == "suite.below_floor"
    strong = FakeWorker(verifier, evidence_changes={"hpke_suite": "xwing"})
    assert believe(strong.serving(), MODEL, verifier.trust(floors=Floors()), now()).recipient.hpke_suite == "xwing"


@pytest.mark.attack("G14")
def test_an_older_version_of_sealing_is_refused_where_the_bundle_asks_for_a_newer(verifier: FakeVerifier) -> None:
    older = FakeWorker(verifier, evidence_changes={"seal_version": 1})
    found = believe(older.serving(), MODEL, verifier.trust(), now())
    assert found.recipient.seal_version == 1
    trust = verifier.trust(floors=replace(verifier.trust().floors, seal_version=2))
    assert believe(FakeWorker(verifier).serving(), MODEL, trust, now()).recipient.seal_version == 2
    with pytest.raises(EvidenceRejected, match=r"version 1 of sealing, below the floor .* version 2") as refused:
        believe(older.serving(), MODEL, trust, now())
    assert refused.value.reason == "seal.below_floor"


@pytest.mark.attack("G14")
@pytest.mark.attack("D03")
@pytest.mark.parametrize(
    "lie", [{"seal_version": 2}, {"hpke_suite": "xwing", "hpke_public": bytes(1216)}], ids=["version", "suite"]
)
def test_suite_and_version_are_inside_what_the_quote_signs(verifier: FakeVerifier, lie: dict[str, Any]) -> None:
    older = FakeWorker(verifier, evidence_changes={"seal_version": 1})
    serving = older.serving()
    assert believe(serving, MODEL, verifier.trust(), now())
    serving.bundle.evidence.claims = encode(replace(older.evidence.claims, **lie))
    with pytest.raises(EvidenceRejected) as refused:
        believe(serving, MODEL, verifier.trust(), now())
    assert (refused.value.step, refused.value.reason) == (5, "claims.unbound")


def test_a_result_cannot_lie_about_the_code_to_fit_a_policy(verifier: FakeVerifier) -> None:
    trust = verifier.trust(mrenclave=None, policy_toml=policy_for(ENCLAVE))
    worker = FakeWorker(
        verifier, enclave=OTHER_ENCLAVE, spoil=lambda result: replace(result, mrsigner=ENCLAVE.mrsigner.hex())
    )
    with pytest.raises(EvidenceRejected) as refused:
        believe(worker.serving(), MODEL, trust, now())
    assert (refused.value.step, refused.value.reason) == (7, "measurement.refused")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"audience": "provisioner"}, "token.audience"),
        ({"issuer": f"spiffe://{CLUSTER}/verifier/other"}, "token.issuer"),
        ({"cluster": "other.example", "spiffe_id": "spiffe://other.example/worker/x"}, "identity.other"),
        ({"role": "gateway", "spiffe_id": f"spiffe://{CLUSTER}/gateway/x"}, "identity.other"),
        ({"spiffe_id": f"spiffe://{CLUSTER}/worker/{'0' * 32}"}, "identity.other"),
        ({"simulated": False, "hardware": 2}, "anchor.other"),
        ({"debug": True}, "enclave.debug"),
        ({"hpke_public": bytes(32)}, "claims.hpke_public_mismatched"),
        ({"receipt_key": bytes(32)}, "claims.receipt_key_mismatched"),
        ({"tls_spki_sha256": bytes(32)}, "claims.tls_spki_sha256_mismatched"),
        ({"nonce": bytes(32)}, "claims.nonce_mismatched"),
        ({"config_digest": bytes([1] * 32)}, "claims.config_digest_mismatched"),
        ({"mrenclave": "ab" * 32}, "findings.other"),
        ({"mrsigner": "ab" * 32}, "findings.other"),
        ({"isvsvn": 99}, "findings.other"),
        ({"tcb_status": "OutOfDate"}, "findings.other"),
        ({"advisory_ids": ("INTEL-SA-00001",)}, "findings.other"),
        ({"collateral_sha256": bytes(32)}, "findings.other"),
    ],
)
def test_a_result_that_says_something_else_is_refused(
    verifier: FakeVerifier, change: dict[str, Any], reason: str
) -> None:
    def spoil(result: AttestationResult) -> AttestationResult:
        return replace(result, **change)

    worker = FakeWorker(verifier, spoil=spoil)
    pinned = verifier.trust(mrenclave=frozenset({worker.enclave.mrenclave.hex(), "ab" * 32}))
    with pytest.raises(EvidenceRejected) as refused:
        believe(worker.serving(), MODEL, pinned, now())
    assert refused.value.reason == reason


def test_a_result_of_another_verifier_key_is_refused(verifier: FakeVerifier) -> None:
    worker = FakeWorker(FakeVerifier())
    with pytest.raises(EvidenceRejected) as refused:
        believe(worker.serving(), MODEL, verifier.trust(), now())
    assert refused.value.reason == "token.key_unknown"


def test_a_result_is_believed_only_while_it_lasts(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier)
    with pytest.raises(EvidenceRejected) as refused:
        believe(worker.serving(), MODEL, verifier.trust(), now() + timedelta(hours=2))
    assert refused.value.reason == "token.expired"


@pytest.mark.attack("C11")
def test_simulated_evidence_is_nothing_to_a_client_that_trusts_intel(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier)
    with pytest.raises(EvidenceRejected) as refused:
        believe(worker.serving(), MODEL, verifier.trust(anchor=INTEL_SGX), now())
    assert refused.value.reason == "anchor.other"


@pytest.mark.attack("C11")
def test_a_verifier_that_calls_simulated_evidence_genuine_is_found_out(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier, spoil=lambda result: replace(result, simulated=False, hardware=2))
    with pytest.raises(EvidenceRejected) as refused:
        believe(worker.serving(), MODEL, verifier.trust(anchor=INTEL_SGX), now())
    assert refused.value.step > 0  # our own appraisal objects: the quote does not lead to Intel's root


def test_a_quote_that_our_own_policy_refuses_is_refused_whatever_the_verifier_says(verifier: FakeVerifier) -> None:
    platform = simulated_platform()
    platform.tcb_status = "OutOfDate"
    worker = FakeWorker(verifier, evidence_changes={"platform": platform})
    with pytest.raises(EvidenceRejected) as refused:
        believe(worker.serving(), MODEL, verifier.trust(), now())
    assert refused.value.reason == "tcb_status.refused"


def swapped_evidence(mine: ServingWorker, other: ServingWorker) -> None:
    mine.bundle.evidence.CopyFrom(other.bundle.evidence)


def swapped_claims(mine: ServingWorker, other: ServingWorker) -> None:
    mine.bundle.evidence.claims = other.bundle.evidence.claims


def swapped_quote(mine: ServingWorker, other: ServingWorker) -> None:
    mine.bundle.evidence.quote = other.bundle.evidence.quote


def swapped_result(mine: ServingWorker, other: ServingWorker) -> None:
    mine.bundle.attestation_result = other.bundle.attestation_result


def swapped_name(mine: ServingWorker, other: ServingWorker) -> None:
    mine.instance = other.instance


@pytest.mark.parametrize("swap", [swapped_evidence, swapped_claims, swapped_quote, swapped_result, swapped_name])
def test_parts_of_another_worker_that_is_good_itself_do_not_fit(
    verifier: FakeVerifier, swap: Callable[[ServingWorker, ServingWorker], None]
) -> None:
    mine, other = FakeWorker(verifier).serving(), FakeWorker(verifier).serving()
    swap(mine, other)
    with pytest.raises(EvidenceRejected):
        believe(mine, MODEL, verifier.trust(), now())


@pytest.mark.parametrize("field", ["claims", "quote", "collateral", "attestation_result"])
def test_what_is_missing_or_rubbish_is_refused(verifier: FakeVerifier, field: str) -> None:
    for rubbish in (b"", b"rubbish"):
        offer = FakeWorker(verifier).serving()
        match field:
            case "claims" | "quote":
                setattr(offer.bundle.evidence, field, rubbish)
            case "collateral":
                offer.bundle.collateral = rubbish
            case _:
                offer.bundle.attestation_result = rubbish.decode()
        with pytest.raises(CloisterError):
            believe(offer, MODEL, verifier.trust(), now())


def test_a_model_is_one_that_an_accepted_owner_signed(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier)
    accepted = verifier.trust(owners=frozenset({OWNER_KEY.hex()}))
    found = believe(worker.serving(), MODEL, accepted, now())
    assert (found.owner, found.model.name, found.model.digest) == (OWNER_KEY, MODEL, DIGEST)
    with pytest.raises(EvidenceRejected) as refused:
        believe(worker.serving(), MODEL, verifier.trust(owners=frozenset({"ab" * 32})), now())
    assert refused.value.reason == "owner.unknown"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "other"}, "manifest.other"),
        ({"version": 2}, "manifest.other"),
        ({"digest": bytes(32)}, "manifest.other"),
        (None, "manifest.invalid"),
    ],
)
def test_a_manifest_of_another_model_is_refused(
    verifier: FakeVerifier, change: dict[str, Any] | None, reason: str
) -> None:
    offer = FakeWorker(verifier).serving()
    if change is None:
        offer.ClearField("manifest")
    else:
        offer.manifest.CopyFrom(signed_manifest(**change))
    with pytest.raises(EvidenceRejected) as refused:
        believe(offer, MODEL, verifier.trust(), now())
    assert refused.value.reason == reason


def test_a_manifest_that_its_owner_did_not_sign_is_refused(verifier: FakeVerifier) -> None:
    offer = FakeWorker(verifier).serving()
    offer.manifest.signature = signed_manifest(version=2).signature
    with pytest.raises(EvidenceRejected) as refused:
        believe(offer, MODEL, verifier.trust(), now())
    assert refused.value.reason == "manifest.invalid"
