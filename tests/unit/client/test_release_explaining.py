"""What a worker would get of a model's key: the same answer as at a release, and every rule's own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloister.api.v1.provisioner_pb2 import ModelSummary, SignedManifest
from cloister.client.release_explaining import ExplainedWorker, explain_worker, policy_listed
from cloister.ear import AttestationResult
from cloister.errors import InvalidRequest, KeyRefused, SealBroken
from cloister.provisioner.models.rules import decide
from cloister.seal.release_policy import parse_policy
from fakes.job_worker import signed_policy
from fakes.serving import MODEL, OWNER, FakeVerifier, FakeWorker
from fakes.signer_sets import ALICE, FIRST

VERIFIER = FakeVerifier()
TRUST = VERIFIER.trust()
WORKER = FakeWorker(VERIFIER)
TOKEN = WORKER.serving().bundle.attestation_result


def explained(token: str = TOKEN, *, version: int = 1, late_s: float = 0.0, **policy: Any) -> ExplainedWorker:
    read = parse_policy(signed_policy(**policy).policy)
    now = datetime.now(UTC) + timedelta(seconds=late_s)
    return explain_worker(WORKER.instance, token, TRUST, read, model_version=version, now=now)


def test_who_meets_every_rule_would_get_the_key() -> None:
    found = explained()
    assert found.entitled
    assert [each.rule for each in found.findings if not each.met] == []


def test_who_does_not_is_told_of_each_rule_that_is_in_the_way() -> None:
    found = explained(version=1, tcb_statuses=["OutOfDate"], allow_simulated=False, min_model_version=2)
    assert not found.entitled
    reasons = [each.reason for each in found.findings if not each.met]
    assert reasons == ["hardware.simulated", "tcb.not_allowed", "model.version_too_old"]


@pytest.mark.parametrize(
    "policy", [{"allow_simulated": False}, {"mrenclave": ["cd" * 32]}, {"platforms": {"ppid_sha256": ["cd" * 32]}}]
)
def test_the_provisioner_refuses_for_the_reason_that_is_shown_first(policy: dict[str, Any]) -> None:
    found = explained(**policy)
    assert found.result is not None
    first = next(each for each in found.findings if not each.met)
    read = parse_policy(signed_policy(**policy).policy)
    with pytest.raises(KeyRefused) as refused:
        decide(_for_release(found), read, model_version=1, cluster=TRUST.cluster)
    assert (refused.value.reason, refused.value.objections) == (first.reason, (str(first),))


def _for_release(found: ExplainedWorker) -> AttestationResult:
    assert found.result is not None
    return replace(found.result, audience="provisioner")


def test_a_result_that_is_not_the_verifiers_or_over_or_anothers_counts_for_nothing() -> None:
    forged = FakeWorker(FakeVerifier()).serving().bundle.attestation_result
    another = FakeWorker(VERIFIER).serving().bundle.attestation_result
    found = [explained(forged), explained(late_s=7200), explained(another)]
    assert [one.entitled for one in found] == [False] * 3
    reasons = [one.refusal.reason for one in found if one.refusal is not None]
    assert reasons == ["token.key_unknown", "token.expired", "instance.other"]
    assert [one.findings for one in found] == [()] * 3


def listed(**changes: Any) -> ModelSummary:
    public = OWNER.public_key().public_bytes_raw()
    fields = {"name": MODEL, "manifest": SignedManifest(public_key=public), "signed_policy": signed_policy()}
    return ModelSummary(**(fields | changes))


@pytest.mark.attack("C08")
def test_the_policy_in_force_is_shown_when_those_signed_it_who_may() -> None:
    read = policy_listed(listed())
    assert read is not None
    assert read.version == 1
    assert policy_listed(ModelSummary(name=MODEL)) is None
    with pytest.raises(SealBroken):
        policy_listed(listed(signed_policy=signed_policy(ALICE)))
    with pytest.raises(InvalidRequest):
        policy_listed(listed(signed_policy=signed_policy(signer_set=1), signer_sets=[FIRST]))
