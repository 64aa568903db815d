"""A policy is applied whole, or not at all; an appraisal is under exactly one, whatever is applied meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cloister.appraisal.appraise import Appraisal
from cloister.appraisal.policy import Policy
from cloister.errors import ChallengeExpired, InvalidRequest, Overloaded, Unavailable
from cloister.kit.lifecycle import Lifecycle
from cloister.verifier import judges
from cloister.verifier.attested import AttestedWorkers, MemberStore
from cloister.verifier.member import Keys, MemberRecord
from cloister.verifier.nonces import Purpose
from cloister.verifier.policy_desk import MAX_WAITING, PolicyDesk
from cloister.verifier.policy_in_force import Signers
from cloister_simulator.measurement import Measurement
from fakes.policies import SIGNER_KEYS, policy_toml, signed
from fakes.verifier_desk import VerifierDesk, verifier_desk

OPERATOR = "spiffe://demo.cloister.internal/operator/main"
OTHER = Measurement(mrenclave=b"\x05" * 32)
LONG = b".".join([b"a"] * 200_000) + b" = 1"  # would be read for hours
TWO_OF_THREE = Signers(keys=SIGNER_KEYS, threshold=2)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[VerifierDesk]:
    with verifier_desk(tmp_path, signers=TWO_OF_THREE) as made:
        async with Lifecycle.running() as lifecycle:
            lifecycle.spawn(made.policy_desk.running(), "policy_desk.running")
            yield made


def last(desk: VerifierDesk) -> dict[str, Any]:
    return desk.entries()[-1]


async def test_an_applied_policy_is_in_force_in_the_record_and_on_its_members(desk: VerifierDesk) -> None:
    await desk.join()
    fallen, _ = await desk.join(enclave=OTHER)
    review = await desk.policy_desk.apply(signed(policy_toml(3), 0, 2), OPERATOR)
    assert desk.policies.current() == review.policy == Policy.from_toml(policy_toml(3))
    assert [one.instance for one in review.fallen] == [fallen.claims.instance]
    assert review.stood == len(desk.attested) == 1
    applied, revoked = desk.entries()[-2:]
    assert (applied["event"], applied["peer"], applied["policy_version"]) == ("policy.applied", OPERATOR, 3)
    assert applied["policy_digest"] == review.policy.digest.hex()
    assert applied["signers"] == sorted([SIGNER_KEYS[0], SIGNER_KEYS[2]])
    assert (applied["replaced_version"], applied["replaced_digest"]) == (0, Policy.default().digest.hex())
    assert revoked["event"] == "member.revoked"


@pytest.mark.attack("C07")
@pytest.mark.attack("C08")
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "policy.unsigned"),
        pytest.param(LONG, "policy.unsigned", id="long and unsigned"),
        pytest.param(signed(LONG, 0), "signature.insufficient", id="long and signed by one"),
        (signed(b"policy_id = 1", 0, 1), "policy.malformed"),
        (b"{", "signature.malformed"),
        (policy_toml(3), "policy.unsigned"),
        (signed(policy_toml(3), 1), "signature.insufficient"),
        (signed(policy_toml(3, 'accepted_statuses = "any"'), 0, 1), "policy.malformed"),
        (signed(policy_toml(1), 0, 1), "policy.rolled_back"),
    ],
)
async def test_a_policy_that_is_refused_changes_nothing_and_is_in_the_record(
    desk: VerifierDesk, raw: bytes, reason: str
) -> None:
    await desk.policy_desk.apply(signed(policy_toml(2), 0, 1), OPERATOR)
    await desk.join()
    before = len(desk.entries())
    with pytest.raises(InvalidRequest) as refused:
        await desk.policy_desk.apply(raw, OPERATOR)
    assert refused.value.reason == reason
    assert desk.policies.current() == Policy.from_toml(policy_toml(2))
    assert len(desk.entries()) == before + 1
    assert (last(desk)["event"], last(desk)["reason"], last(desk)["peer"]) == ("policy.refused", reason, OPERATOR)
    await desk.join()


async def test_without_a_record_no_policy_is_applied(desk: VerifierDesk) -> None:
    desk.audit._connection.close()
    with pytest.raises(Unavailable):
        await desk.policy_desk.apply(signed(policy_toml(2), 0, 1), OPERATOR)
    assert desk.policies.current() == Policy.default()


async def test_a_policy_that_cannot_be_kept_is_not_in_force(
    desk: VerifierDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("cloister.verifier.policy_in_force.replace_private", full)
    with pytest.raises(Unavailable):
        await desk.policy_desk.apply(signed(policy_toml(2), 0, 1), OPERATOR)
    assert desk.policies.current() == Policy.default()
    assert [entry["event"] for entry in desk.entries()] == ["policy.applied", "policy.refused"]


async def test_an_operator_who_hangs_up_leaves_nothing_half_done(desk: VerifierDesk) -> None:
    fallen, _ = await desk.join(enclave=OTHER)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(desk.policy_desk.apply(signed(policy_toml(2), 0, 1), OPERATOR))
        await asyncio.sleep(0)
        call.cancel()
    review = await desk.policy_desk.apply(signed(policy_toml(2), 0, 1), OPERATOR)
    assert review.fallen == ()
    assert desk.attested.get(fallen.claims.instance) is None
    assert [entry["event"] for entry in desk.entries()].count("member.revoked") == 1


async def test_who_was_a_member_before_is_judged_at_the_start(tmp_path: Path) -> None:
    with verifier_desk(tmp_path) as desk:
        await desk.join(enclave=OTHER)
        await desk.join()
        desk.policy = Policy.from_toml(policy_toml(2))
        desk.restart()
        async with Lifecycle.running() as lifecycle:
            lifecycle.spawn(desk.policy_desk.running(), "policy_desk.running")
            review = await desk.policy_desk.apply(policy_toml(3), OPERATOR)
        assert (review.stood, review.fallen) == (1, ())
        revoked, applied = desk.entries()[-2:]
        assert (revoked["event"], revoked["policy_version"], revoked["reason"]) == (
            "member.revoked",
            2,
            "measurement.refused",
        )
        assert applied["event"] == "policy.applied"


async def test_policies_do_not_queue_up_without_bound(tmp_path: Path) -> None:
    with verifier_desk(tmp_path) as desk:
        idle = PolicyDesk(desk.policies, desk.standing, desk.audit)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(idle.apply(policy_toml(n), OPERATOR)) for n in range(1, MAX_WAITING + 1)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await idle.apply(policy_toml(9), OPERATOR)
            (entry,) = desk.entries()
            assert (entry["event"], entry["reason"]) == ("policy.refused", "policies.waiting")
            for task in waiting:
                task.cancel()


Overtake = Callable[[], None]


@pytest.fixture
def overtaken(desk: VerifierDesk, monkeypatch: pytest.MonkeyPatch) -> Overtake:
    """Once called, the next appraisal ends under a policy that is not in force any more."""
    whole = judges.appraise

    def act() -> None:
        def appraise(*arguments: Any, **named: Any) -> Appraisal:
            monkeypatch.setattr(judges, "appraise", whole)
            found = whole(*arguments, **named)
            desk.policies.put(desk.policies.check(signed(policy_toml(2), 0, 1)))
            return found

        monkeypatch.setattr(judges, "appraise", appraise)

    return act


@pytest.mark.attack("J09")
async def test_a_result_names_the_one_policy_that_it_is_under(desk: VerifierDesk) -> None:
    _, first = await desk.join()
    review = await desk.policy_desk.apply(signed(policy_toml(2), 0, 1), OPERATOR)
    _, second = await desk.join()
    assert desk.read(first, "mesh").policy_digest == Policy.default().digest
    assert desk.read(second, "mesh").policy_digest == review.policy.digest
    assert (desk.read(second, "mesh").policy_id, last(desk)["policy_digest"]) == ("tests", review.policy.digest.hex())


@pytest.mark.attack("J09")
@pytest.mark.parametrize("purpose", list(Purpose))
async def test_what_an_overtaken_policy_believed_is_withheld(
    desk: VerifierDesk, overtaken: Overtake, purpose: Purpose
) -> None:
    evidence, _ = await desk.join()
    overtaken()
    with pytest.raises(ChallengeExpired) as refused:
        await desk.again(evidence, purpose)
    assert refused.value.reason == "policy.changed"
    assert (last(desk)["event"], last(desk)["reason"]) == ("evidence.rejected", "policy.changed")
    issued = await desk.again(evidence, purpose)
    assert desk.read(issued, purpose.audience).policy_digest == Policy.from_toml(policy_toml(2)).digest


@pytest.mark.attack("J09")
async def test_who_joins_under_an_overtaken_policy_is_no_member(desk: VerifierDesk, overtaken: Overtake) -> None:
    overtaken()
    with pytest.raises(ChallengeExpired):
        await desk.join(enclave=OTHER)
    assert len(desk.attested) == 0


@pytest.mark.attack("J09")
async def test_who_is_being_kept_while_the_policy_changes_is_no_member(desk: VerifierDesk) -> None:
    class Slow(MemberStore):
        """A store that takes its time, in which a policy comes into force."""

        async def pin(self, instance: str, keys: Keys, *, life_s: float) -> None:
            pass

        async def put(self, record: MemberRecord, *, life_s: float) -> None:
            if not record.removed:
                desk.policies.put(desk.policies.check(signed(policy_toml(2), 0, 1)))

    desk.attested = AttestedWorkers(monotonic=desk.clock, store=Slow())
    desk.restart()
    with pytest.raises(ChallengeExpired) as refused:
        await desk.join(enclave=OTHER)
    assert refused.value.reason == "policy.changed"
    assert len(desk.attested) == 0
