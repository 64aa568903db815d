"""An answered challenge: wholly good, then broken in one thing, with the step and reason that the record must show."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.appraisal.appraise import Appraisal
from cloister.appraisal.policy import Policy
from cloister.appraisal.reference import ReferenceValue
from cloister.errors import (
    ChallengeExpired,
    CloisterError,
    EvidenceRejected,
    InternalError,
    NotReady,
    Overloaded,
    Unavailable,
)
from cloister.rpc.certificates import key_pem, new_key, spki, spki_sha256
from cloister.rpc.identity import PeerIdentity
from cloister.verifier import judges
from cloister.verifier.appraiser import REFUSED
from cloister.verifier.judges import Case
from cloister.verifier.nonces import Purpose
from cloister.verifier.submission import Submission
from cloister.verifier.turns import Turns
from cloister_simulator.platform import Platform
from fakes.sim import CLUSTER, ENCLAVE, VERIFIER
from fakes.verifier_desk import ENDPOINT, VerifierDesk, enrol_peer, submission, verifier_desk, worker_peer


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[VerifierDesk]:
    with verifier_desk(tmp_path) as made:
        yield made


async def rejected(desk: VerifierDesk, sent: Submission, peer: PeerIdentity | None = None) -> tuple[int, str]:
    """Step and reason in the record; the caller's words are always the same."""
    before = len(desk.entries())
    with pytest.raises(EvidenceRejected) as heard:
        await desk.appraiser.appraise(sent, peer or enrol_peer())
    assert (str(heard.value), heard.value.reason, heard.value.step) == (REFUSED, "evidence.rejected", 0)
    entries = desk.entries()
    assert len(entries) == before + 1
    entry = entries[-1]
    assert (entry["event"], entry["peer"]) == ("evidence.rejected", (peer or enrol_peer()).spiffe_id)
    return entry["step"], entry["reason"]


# Joining


async def test_a_starting_worker_becomes_a_member(desk: VerifierDesk) -> None:
    evidence, issued = await desk.join()
    result = desk.read(issued, "mesh")
    claims = evidence.claims
    assert (result.instance, result.spiffe_id) == (claims.instance, f"spiffe://{CLUSTER}/worker/{claims.instance}")
    assert (result.receipt_key, result.hpke_public) == (claims.receipt_key, claims.hpke_public)
    assert result.mrenclave == ENCLAVE.mrenclave.hex()
    assert result.expires_at == issued.expires_at == result.issued_at + timedelta(hours=1)
    member = desk.attested.get(claims.instance)
    assert member is not None
    assert (member.quote, member.claims) == (evidence.quote, evidence.claims_bytes)
    assert member.collateral == desk.collateral_path.read_bytes()
    assert (member.endpoint, member.attestation_result) == (ENDPOINT, issued.attestation_result)


async def test_the_certificate_is_for_the_attested_key_and_no_longer_than_the_result(desk: VerifierDesk) -> None:
    evidence, issued = await desk.join()
    leaf, ca = x509.load_pem_x509_certificates(issued.certificate_chain)
    instance = evidence.claims.instance
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{CLUSTER}/worker/{instance}"]
    assert names.get_values_for_type(x509.DNSName) == [f"{instance}.worker.{CLUSTER}"]
    assert spki_sha256(leaf) == evidence.claims.tls_spki_sha256
    assert leaf.not_valid_after_utc == issued.expires_at
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {*usage} == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    leaf.verify_directly_issued_by(ca)
    assert ca == desk.pki.attested.certificate


async def test_simulated_evidence_is_called_so(desk: VerifierDesk) -> None:
    evidence, issued = await desk.join()
    result = desk.read(issued, "mesh")
    assert (result.simulated, result.hardware, result.anchor) == (True, 96, "simulated")
    assert result.status == "contraindicated"
    member = desk.attested.get(evidence.claims.instance)
    assert member is not None
    assert member.simulated


async def test_code_without_reference_values_is_called_unrecognised(desk: VerifierDesk) -> None:
    _, issued = await desk.join()
    assert desk.read(issued, "mesh").executables == 33


async def test_code_that_matches_a_reference_value_is_affirmed(tmp_path: Path) -> None:
    policy = Policy(reference_values=(ReferenceValue(mrenclave=ENCLAVE.mrenclave),))
    with verifier_desk(tmp_path, policy=policy) as desk:
        _, issued = await desk.join()
        result = desk.read(issued, "mesh")
    assert (result.executables, result.configuration) == (2, 2)


async def test_an_accepted_appraisal_is_in_the_record(desk: VerifierDesk) -> None:
    evidence, issued = await desk.join()
    entry = desk.entries()[-1]
    assert (entry["event"], entry["purpose"]) == ("evidence.accepted", "mesh")
    assert (entry["instance"], entry["mrenclave"]) == (evidence.claims.instance, ENCLAVE.mrenclave.hex())
    assert (entry["tcb_status"], entry["anchor"], entry["simulated"]) == ("UpToDate", "simulated", True)
    assert entry["ear_id"] == desk.read(issued, "mesh").ear_id


async def test_the_record_holds_no_token_quote_or_nonce(desk: VerifierDesk) -> None:
    evidence, issued = await desk.join()
    challenge, other = await desk.evidence()
    await rejected(desk, submission(challenge, other, quote=other.quote[:-1]))
    written = b"".join(entry.record for entry in desk.audit.records())
    for secret in (issued.attestation_result.encode(), evidence.claims.nonce, challenge.nonce, evidence.quote):
        assert secret not in written
        assert secret.hex().encode() not in written


# A member attests again


async def test_a_member_gets_a_result_for_the_provisioner(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    issued = await desk.again(evidence, Purpose.KEY_RELEASE)
    result = desk.read(issued, "provisioner")
    assert result.expires_at - result.issued_at == timedelta(minutes=5)
    assert issued.certificate_chain == b""
    assert result.tls_spki_sha256 == evidence.claims.tls_spki_sha256


async def test_a_member_renews(desk: VerifierDesk) -> None:
    evidence, first = await desk.join()
    second = await desk.again(evidence, Purpose.MESH)
    assert second.certificate_chain
    member = desk.attested.get(evidence.claims.instance)
    assert member is not None
    assert member.attestation_result == second.attestation_result != first.attestation_result


async def test_a_member_is_known_again_after_a_restart(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    desk.attested = type(desk.attested)(monotonic=desk.clock)
    desk.restart()
    await desk.again(evidence, Purpose.MESH)
    assert desk.attested.get(evidence.claims.instance) is not None


@pytest.mark.attack("D02")
async def test_who_enrols_gets_no_result_for_the_provisioner(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    challenge = await desk.challenge(evidence.tls_key, enrol_peer(), Purpose.KEY_RELEASE)
    sent = submission(challenge, evidence)
    assert await rejected(desk, sent) == (0, "peer.not_member")


async def test_a_worker_speaks_for_its_own_tls_key(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    thief = replace(worker_peer(evidence), spki_sha256=hashlib.sha256(b"another key").digest())
    with pytest.raises(EvidenceRejected):
        await desk.again(evidence, Purpose.KEY_RELEASE, thief)
    assert desk.entries()[-1]["reason"] == "peer.other_key"


async def test_a_worker_speaks_for_its_own_instance(desk: VerifierDesk) -> None:
    victim, _ = await desk.join()
    worker, _ = await desk.join()
    challenge = await desk.challenge(worker.tls_key, worker_peer(worker))
    _, foreign = await desk.evidence(nonce=challenge.nonce, tls_key=worker.tls_key, instance=victim.claims.instance)
    step, reason = await rejected(desk, submission(challenge, foreign), worker_peer(worker))
    assert (step, reason) == (5, "claims.spiffe_id_mismatched")


@pytest.mark.attack("C10")
@pytest.mark.parametrize(
    "claims",
    [{"hpke_suite": "x25519", "hpke_public": b"\x09" + bytes(31)}, {"receipt_key": b"\x07" * 32}],
    ids=["suite", "receipt"],
)
async def test_the_same_instance_with_another_key_is_refused(desk: VerifierDesk, claims: dict[str, Any]) -> None:
    evidence, _ = await desk.join()
    with pytest.raises(EvidenceRejected):
        await desk.again(evidence, Purpose.MESH, **claims)
    assert desk.entries()[-1]["reason"] == "instance.keys_changed"
    with pytest.raises(EvidenceRejected):
        await desk.again(evidence, Purpose.KEY_RELEASE, **claims)


async def test_a_worker_may_have_a_new_key_that_requests_are_sealed_to(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    renewed = b"\x09" + bytes(1215)
    await desk.again(evidence, Purpose.MESH, hpke_public=renewed)
    member = desk.attested.get(evidence.claims.instance)
    assert member is not None
    assert member.keys.hpke_public == renewed


@pytest.mark.attack("C10")
async def test_the_same_instance_enrolling_with_another_tls_key_is_refused(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    challenge, forked = await desk.evidence(instance=evidence.claims.instance)
    assert await rejected(desk, submission(challenge, forked)) == (0, "instance.keys_changed")
    member = desk.attested.get(evidence.claims.instance)
    assert member is not None
    assert member.keys.tls_spki_sha256 == evidence.claims.tls_spki_sha256


# The challenge


@pytest.mark.attack("D01")
async def test_of_200_concurrent_answers_one_succeeds(desk: VerifierDesk) -> None:
    challenge, evidence = await desk.evidence()

    async def answer() -> bool:
        try:
            await desk.appraiser.appraise(submission(challenge, evidence), enrol_peer())
        except ChallengeExpired:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer()) for _ in range(200)]
    assert sum(task.result() for task in tasks) == 1


async def test_a_rejected_answer_has_used_the_challenge_up(desk: VerifierDesk) -> None:
    challenge, evidence = await desk.evidence()
    await rejected(desk, submission(challenge, evidence, quote=b""))
    with pytest.raises(ChallengeExpired):
        await desk.appraiser.appraise(submission(challenge, evidence), enrol_peer())
    assert desk.entries()[-1]["reason"] == "challenge.expired"


@pytest.mark.attack("D10")
async def test_a_restart_voids_old_challenges(desk: VerifierDesk) -> None:
    challenge, evidence = await desk.evidence()
    desk.restart()
    with pytest.raises(ChallengeExpired):
        await desk.appraiser.appraise(submission(challenge, evidence), enrol_peer())


@pytest.mark.attack("D02")
async def test_a_challenge_ends_with_its_time(desk: VerifierDesk) -> None:
    challenge, evidence = await desk.evidence()
    desk.clock.pass_s(60)
    with pytest.raises(ChallengeExpired):
        await desk.appraiser.appraise(submission(challenge, evidence), enrol_peer())


async def test_a_challenge_for_one_key_does_not_serve_another(desk: VerifierDesk) -> None:
    challenge, _ = await desk.evidence()
    _, other = await desk.evidence(nonce=challenge.nonce)
    with pytest.raises(ChallengeExpired):
        await desk.appraiser.appraise(submission(challenge, other), enrol_peer())


@pytest.mark.attack("D02")
async def test_a_challenge_of_one_peer_does_not_serve_another(desk: VerifierDesk) -> None:
    challenge, evidence = await desk.evidence()
    with pytest.raises(ChallengeExpired):
        await desk.appraiser.appraise(submission(challenge, evidence), worker_peer(evidence))


# The evidence

_OTHER_CLUSTER = "other.cloister.internal"


@pytest.mark.attack("D05")
@pytest.mark.parametrize(
    ("change", "step", "reason"),
    [
        ({"nonce": bytes(32)}, 5, "claims.nonce_mismatched"),
        ({"audience": f"spiffe://{CLUSTER}/verifier/other"}, 5, "claims.audience_mismatched"),
        ({"cluster": _OTHER_CLUSTER}, 5, "claims.cluster_mismatched"),
        ({"role": "gateway"}, 5, "claims.role_mismatched"),
        ({"spiffe_id": f"spiffe://{CLUSTER}/worker/{'0' * 32}"}, 5, "identity.other"),
        ({"tls_spki_sha256": bytes(32)}, 5, "claims.tls_spki_sha256_mismatched"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_claims_that_are_not_for_us(desk: VerifierDesk, change: dict[str, Any], step: int, reason: str) -> None:
    challenge, evidence = await desk.evidence(**change)
    assert await rejected(desk, submission(challenge, evidence)) == (step, reason)


@pytest.mark.parametrize(
    ("field", "value", "step"),
    [("debug", True, 7), ("tcb_status", "OutOfDate", 7), ("revoked", {"pck"}, 2), ("qe_mrsigner", bytes(32), 3)],
)
async def test_a_platform_that_is_not_good_enough(desk: VerifierDesk, field: str, value: object, step: int) -> None:
    setattr(desk.platform, field, value)
    desk.publish(desk.platform)
    challenge, evidence = await desk.evidence()
    found, _ = await rejected(desk, submission(challenge, evidence))
    assert found == step
    assert len(desk.attested) == 0


@pytest.mark.attack("D03")
async def test_claims_other_than_those_quoted_are_refused(desk: VerifierDesk) -> None:
    challenge, evidence = await desk.evidence()
    _, other = await desk.evidence(nonce=challenge.nonce, tls_key=evidence.tls_key)
    sent = submission(challenge, evidence, claims=other.claims_bytes)
    assert await rejected(desk, sent) == (5, "claims.unbound")
    assert desk.entries()[-1]["instance"] == other.claims.instance


async def test_a_rejection_names_the_enclave_that_was_quoted(desk: VerifierDesk) -> None:
    challenge, evidence = await desk.evidence(nonce=bytes(32))
    await rejected(desk, submission(challenge, evidence))
    entry = desk.entries()[-1]
    assert (entry["mrenclave"], entry["purpose"]) == (ENCLAVE.mrenclave.hex(), "mesh")


@pytest.mark.parametrize("quote", [b"", b"\xff" * 70_000, bytes(4096)], ids=["empty", "huge", "zeros"])
async def test_bytes_that_are_no_quote_are_refused(desk: VerifierDesk, quote: bytes) -> None:
    challenge, evidence = await desk.evidence()
    step, _ = await rejected(desk, submission(challenge, evidence, quote=quote))
    assert step == 1
    await desk.join()


@pytest.mark.attack("G1")
@pytest.mark.parametrize(
    ("field", "size_bytes", "objection"),
    [("quote", (64 << 10) + 1, (1, "quote.too_large")), ("claims", 4097, (5, "claims.malformed"))],
    ids=["quote", "claims"],
)
async def test_evidence_larger_than_any_does_not_wait_for_its_turn(
    desk: VerifierDesk, field: str, size_bytes: int, objection: tuple[int, str]
) -> None:
    challenge, evidence = await desk.evidence()
    desk.turns = Turns(0)
    desk.restart()
    challenge = await desk.challenge(evidence.tls_key, enrol_peer())
    sent = submission(challenge, evidence, **{field: bytes(size_bytes)})
    async with asyncio.timeout(5):
        assert await rejected(desk, sent) == objection


async def test_a_tls_key_of_another_curve_is_refused(desk: VerifierDesk) -> None:
    challenge, evidence = await desk.evidence(tls_key=ec.generate_private_key(ec.SECP384R1()))
    assert await rejected(desk, submission(challenge, evidence)) == (0, "request.invalid")


async def test_evidence_under_another_root_is_refused(desk: VerifierDesk) -> None:
    other = Platform.generate(desk.now())
    challenge, evidence = await desk.evidence(platform=other)
    step, _ = await rejected(desk, submission(challenge, evidence))
    assert step == 2


# Collateral and record


async def test_what_cannot_be_judged_for_a_full_disk_is_in_the_record(desk: VerifierDesk) -> None:
    await desk.join()
    desk.platform.tcb_evaluation += 1
    desk.publish(desk.platform)
    staged = desk.memory_path.with_suffix(".new")  # what is seen of collateral is first written there
    staged.mkdir()
    before = len(desk.entries())
    with pytest.raises(Unavailable):
        await desk.join()
    (entry,) = desk.entries()[before:]
    assert (entry["event"], entry["reason"]) == ("evidence.rejected", "state.unavailable")
    staged.rmdir()
    await desk.join()


@pytest.mark.attack("B04")
@pytest.mark.attack("B17")
async def test_expired_collateral_stops_new_attestations(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    desk.ahead = timedelta(days=31)
    challenge, late = await desk.evidence()
    with pytest.raises(NotReady) as refused:
        await desk.appraiser.appraise(submission(challenge, late), enrol_peer())
    assert refused.value.reason == desk.entries()[-1]["reason"] == "collateral.expired"
    assert desk.attested.get(evidence.claims.instance) is not None


async def test_no_record_nothing_issued(desk: VerifierDesk) -> None:
    connection = sqlite3.connect(desk.folder / "audit.db", isolation_level=None)
    connection.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(Unavailable):
        await desk.join()
    assert len(desk.attested) == 0
    connection.execute("DROP TRIGGER full")
    connection.close()
    await desk.join()


@pytest.mark.attack("D02")
async def test_results_are_for_this_verifier_only(desk: VerifierDesk) -> None:
    _, issued = await desk.join()
    assert desk.read(issued, "mesh").issuer == VERIFIER
    with pytest.raises(EvidenceRejected):
        desk.read(issued, "provisioner")


async def test_what_is_sent_and_issued_hides_in_repr(desk: VerifierDesk) -> None:
    challenge, evidence = await desk.evidence()
    sent = submission(challenge, evidence, tls_spki=spki(new_key().public_key()))
    assert "quote" not in repr(sent)


@pytest.mark.attack("J10")
async def test_a_disagreement_of_the_two_verifiers_is_refused_told_and_kept(desk: VerifierDesk) -> None:
    desk.platform.cpusvn = bytes(16)  # the other verifier measures platforms by it, ours by what it stands for
    challenge, evidence = await desk.evidence()
    assert await rejected(desk, submission(challenge, evidence)) == (8, "verifiers.disagree")
    assert desk.metrics.registry.get_sample_value("cloister_verifier_disagreements_total") == 1
    (kept,) = (desk.folder / "disagreements").iterdir()
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    bundle = EvidenceBundle.FromString(kept.read_bytes())
    assert (bundle.evidence.quote, bundle.evidence.claims) == (evidence.quote, evidence.claims_bytes)
    assert bundle.collateral == desk.collateral_path.read_bytes()
    for secret in (challenge.challenge_id, key_pem(evidence.tls_key), evidence.receipt_key.private_bytes_raw()):
        assert secret not in kept.read_bytes()


async def test_evidence_that_the_verifiers_agree_about_is_not_kept(desk: VerifierDesk) -> None:
    await desk.join()
    challenge, evidence = await desk.evidence(nonce=bytes(32))
    await rejected(desk, submission(challenge, evidence))
    assert not (desk.folder / "disagreements").exists()


class Fails:
    """A judge that comes to no end."""

    def __init__(self, error: CloisterError) -> None:
        self._error = error

    async def judge(self, case: Case) -> Appraisal:
        raise self._error


@pytest.mark.parametrize(
    "error",
    [Unavailable("gone", reason="appraisal.lost"), InternalError("a mistake of ours", reason="appraisal.failed")],
    ids=lambda error: error.reason,
)
async def test_evidence_that_no_judge_survives_is_recorded_and_kept(tmp_path: Path, error: CloisterError) -> None:
    with verifier_desk(tmp_path, judge=Fails(error)) as desk:
        with pytest.raises(type(error)):
            await desk.join()
        assert desk.entries()[-1]["reason"] == error.reason
        assert len(list((tmp_path / "disagreements").iterdir())) == 1
        assert len(desk.attested) == 0


@pytest.mark.attack("D11")
async def test_a_flood_of_those_who_enrol_does_not_hold_a_member_up(tmp_path: Path) -> None:
    with verifier_desk(tmp_path, turns=Turns(1, limit=8)) as desk:
        member, _ = await desk.join()
        order: list[str] = []

        async def arrives(name: str, coming: Coroutine[Any, Any, object]) -> None:
            try:
                await coming
            except Overloaded:
                order.append("refused")
            else:
                order.append(name)

        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(arrives("new", desk.join()))
            await asyncio.sleep(0)
            group.create_task(arrives("member", desk.again(member, Purpose.MESH)))
    served = [name for name in order if name != "refused"]
    assert served.index("member") <= 1  # after the one that was inside already
    assert len(served) == 9
    assert len(order) == 21


async def test_outcomes_are_counted(desk: VerifierDesk) -> None:
    await desk.join()
    challenge, evidence = await desk.evidence()
    await rejected(desk, submission(challenge, evidence, quote=b""))
    counted = desk.metrics.registry.get_sample_value
    labels = {"outcome": "rejected", "reason": "quote.malformed", "simulated": "true"}
    assert counted("cloister_appraisals_total", {"outcome": "accepted", "reason": "", "simulated": "true"}) == 1
    assert counted("cloister_appraisals_total", labels) == 1


@pytest.mark.attack("B18")
async def test_what_overtaken_collateral_believed_is_withheld(
    desk: VerifierDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = judges.appraise

    def appraise(*arguments: Any, **named: Any) -> Appraisal:
        monkeypatch.setattr(judges, "appraise", whole)
        found = whole(*arguments, **named)
        desk.platform.revoked.add("pck")
        desk.platform.reissue(desk.now() + timedelta(minutes=5))
        desk.publish(desk.platform)
        desk.collateral.look(desk.now())
        return found

    monkeypatch.setattr(judges, "appraise", appraise)
    with pytest.raises(ChallengeExpired) as refused:
        await desk.join()
    assert refused.value.reason == desk.entries()[-1]["reason"] == "collateral.changed"
    assert len(desk.attested) == 0
    challenge, evidence = await desk.evidence()
    assert await rejected(desk, submission(challenge, evidence)) == (2, "certificate.revoked")
