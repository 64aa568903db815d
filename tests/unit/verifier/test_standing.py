"""Members judged anew: who would not be believed today goes, who renewed meanwhile stays, no fault of ours counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Appraisal
from cloister.appraisal.policy import Policy
from cloister.appraisal.reference import PlatformMode, PlatformRule, ReferenceValue
from cloister.errors import CloisterError, EvidenceRejected, Unavailable
from cloister.verifier import judges, standing
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.judges import Case, Threads
from cloister.verifier.nonces import Purpose
from cloister.verifier.standing import Fallen
from cloister_simulator.measurement import Measurement
from fakes.sim import ENCLAVE, SampleEvidence, simulated_platform
from fakes.verifier_desk import VerifierDesk, verifier_desk

OTHER = Measurement(mrenclave=b"\x05" * 32)
WANTS_OURS = Policy(policy_id="ours", version=2, reference_values=(ReferenceValue(mrenclave=ENCLAVE.mrenclave),))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[VerifierDesk]:
    with verifier_desk(tmp_path) as made:
        yield made


def put(desk: VerifierDesk, policy: Policy) -> None:
    """Another policy is in force, whoever decided it."""
    held = desk.policies.document
    assert held is not None
    desk.policies.put(replace(held, policy=policy))


def instance(evidence: SampleEvidence) -> str:
    return evidence.claims.instance


async def test_who_stands_stays(desk: VerifierDesk) -> None:
    await desk.join()
    await desk.join()
    review = await desk.standing.review("policy")
    assert (review.stood, review.fallen, review.unjudged) == (2, (), 0)
    assert len(desk.attested) == 2
    assert [entry["event"] for entry in desk.entries()] == ["evidence.accepted"] * 2


async def test_who_would_not_be_believed_today_is_revoked_and_the_record_says_why(desk: VerifierDesk) -> None:
    ours, _ = await desk.join()
    other, _ = await desk.join(enclave=OTHER)
    with desk.attested.watching() as events:
        for _ in range(3):
            await anext(events)
        put(desk, WANTS_OURS)
        review = await desk.standing.review("policy")
        gone = await anext(events)
    assert review.fallen == (Fallen(instance(other), 7, "measurement.refused"),)
    assert (review.stood, review.unjudged, review.policy) == (1, 0, WANTS_OURS)
    assert desk.attested.get(instance(ours)) is not None
    assert (gone.reason, gone.member.instance if gone.member else "") == ("revoked", instance(other))
    entry = desk.entries()[-1]
    assert (entry["event"], entry["cause"], entry["instance"]) == ("member.revoked", "policy", instance(other))
    assert (entry["step"], entry["reason"]) == (7, "measurement.refused")
    assert (entry["policy_version"], entry["policy_digest"]) == (2, WANTS_OURS.digest.hex())


@pytest.mark.attack("C06")
async def test_a_platform_that_comes_onto_the_deny_list_falls(desk: VerifierDesk) -> None:
    await desk.join()
    put(desk, Policy(platforms=PlatformRule(deny=frozenset({desk.platform.ppid}))))
    assert [one.reason for one in (await desk.standing.review("policy")).fallen] == ["platform.denied"]
    for rule in (PlatformRule(deny=frozenset({desk.platform.ppid})), PlatformRule(mode=PlatformMode.ENFORCE)):
        put(desk, Policy(platforms=rule))
        with pytest.raises(EvidenceRejected):
            await desk.join()


async def test_a_platform_that_intel_revokes_falls_and_comes_back(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    desk.platform.revoked = {"pck"}
    desk.publish(desk.platform)
    review = await desk.standing.review("collateral")
    assert review.fallen == (Fallen(instance(evidence), 2, "certificate.revoked"),)
    assert desk.entries()[-1]["cause"] == "collateral"
    desk.platform.revoked = set()
    desk.publish(desk.platform)
    await desk.join()
    assert (await desk.standing.review("collateral")).stood == 1


async def test_without_collateral_nobody_falls(desk: VerifierDesk) -> None:
    await desk.join()
    desk.ahead = timedelta(days=400)
    review = await desk.standing.review("collateral")
    assert (review.stood, review.fallen, review.unjudged) == (0, (), 1)
    assert len(desk.attested) == 1


async def test_a_disk_that_is_full_makes_nobody_fall_and_ends_nothing(desk: VerifierDesk) -> None:
    await desk.join()
    desk.platform.tcb_evaluation += 1
    desk.publish(desk.platform)
    staged = desk.memory_path.with_suffix(".new")  # what is seen is first written there
    staged.mkdir()
    review = await desk.standing.review("collateral")
    assert (review.stood, review.fallen, review.unjudged) == (0, (), 1)
    staged.rmdir()
    assert (await desk.standing.review("collateral")).stood == 1


async def test_evidence_is_not_judged_for_another_member(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    member = desk.attested.get(instance(evidence))
    assert member is not None
    for changed in (
        replace(member, instance="0" * 32),
        replace(member, keys=replace(member.keys, receipt_key=bytes(32))),
    ):
        now = desk.now()
        case = standing.case_of(changed, Policy.default(), desk.collateral.current(changed.quote, now), now)
        with pytest.raises(EvidenceRejected) as refused:
            await Threads(desk.anchor).judge(case)
        assert refused.value.step == 5


async def test_who_renews_meanwhile_is_left_alone(desk: VerifierDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, _ = await desk.join()
    former = desk.attested.get(instance(evidence))
    await desk.again(evidence, Purpose.MESH)
    assert former is not None

    monkeypatch.setattr(AttestedWorkers, "members", [former])
    put(desk, WANTS_OURS)
    monkeypatch.setattr(judges, "appraise", _refuse)
    review = await desk.standing.review("policy")
    assert review.fallen == ()
    assert desk.attested.get(instance(evidence)) is not None


async def test_a_judgement_that_comes_to_no_end_takes_nobody_out(tmp_path: Path) -> None:
    class Once(Threads):
        """Judges the first case, and is lost with all others."""

        used = False

        async def judge(self, case: Case) -> Appraisal:
            if self.used:
                raise Unavailable("the appraisal did not come to an end; begin again", reason="appraisal.lost")
            self.used = True
            return await super().judge(case)

    platform = simulated_platform()
    once = Once(TrustAnchor("simulated", platform.root_der()))
    with verifier_desk(tmp_path, platform=platform, judge=once) as desk:
        await desk.join()
        review = await desk.standing.review("policy")
        assert (review.stood, review.fallen, review.unjudged) == (0, (), 1)
        assert len(desk.attested) == 1


async def test_many_are_judged_and_told_apart(desk: VerifierDesk) -> None:
    joined = [await desk.join(enclave=OTHER if number % 3 == 0 else ENCLAVE) for number in range(20)]
    put(desk, WANTS_OURS)
    review = await desk.standing.review("policy")
    others = [instance(evidence) for number, (evidence, _) in enumerate(joined) if number % 3 == 0]
    assert [one.instance for one in review.fallen] == others
    assert (review.stood, review.unjudged) == (13, 0)


async def test_a_record_that_cannot_be_written_keeps_nobody_in(desk: VerifierDesk) -> None:
    await desk.join(enclave=OTHER)
    put(desk, WANTS_OURS)
    desk.audit._connection.close()
    assert len((await desk.standing.review("policy")).fallen) == 1
    assert len(desk.attested) == 0


def _refuse(*_: object, **__: object) -> CloisterError:
    raise EvidenceRejected("refused", step=7, reason="tests.refused")
