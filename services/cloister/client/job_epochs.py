"""The epoch keys that jobs are sealed to, and which of them this client believes. Pure: no clock, no I/O.

A gateway hands on what workers say of their epochs. A statement counts in the name of a worker that this client
believes: under the receipt key of its Attestation Result, and for as long as it is that one. It holds the release
policy, signed by the model's owner, which says who else has the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cloister.api.v1.model_pb2 import SignedReleasePolicy
from cloister.client.bundle import TrustBundle
from cloister.client.policy_scope import check_no_wider
from cloister.client.trust import VerifiedWorker
from cloister.errors import EvidenceRejected, InvalidRequest, NotReady, SealBroken, Unavailable
from cloister.kit.signed_policy import verified_policy
from cloister.seal.job import JobKey
from cloister.seal.job_epoch import verify_epoch


class BelievedEpoch(NamedTuple):
    """A key that jobs may be sealed to, and the policy that says who has it."""

    key: JobKey
    policy: bytes


def believe_epoch(worker: VerifiedWorker, trust: TrustBundle, now: datetime) -> BelievedEpoch:
    """Judge what a believed worker says of its epoch.

    Raises:
        NotReady: It says nothing (reason `epoch.missing`).
        Unavailable: It said so under an Attestation Result that was renewed since, and is about to say it again
            (`epoch.unsettled`).
        EvidenceRejected: It is not signed by the worker's attested key (`epoch.unsigned`), is about another mesh,
            worker or model (`epoch.other`), or has ended (`epoch.ended`); its suite is below the floor
            (`suite.below_floor`); its policy is not signed by the owner, nor by enough of those whom the owner's key
            leads to (`epoch.policy_unsigned`), is another model's, or none that this client knows
            (`epoch.policy_other`), or lets in more than this client would (`epoch.policy_wider`).
    """
    if worker.job_epoch is None:
        raise NotReady("the worker takes no jobs", reason="epoch.missing")
    try:
        said = verify_epoch(worker.job_epoch, worker.result.receipt_key)
    except SealBroken as error:
        raise _rejected("the epoch is not signed by the worker's attested key", "epoch.unsigned") from error
    if (said.cluster, said.instance, said.model_name) != (trust.cluster, worker.instance, worker.model.name):
        raise _rejected("the epoch is another worker's, or of another model or mesh", "epoch.other")
    if said.ear_id != worker.result.ear_id:
        raise Unavailable("the worker has renewed its Attestation Result just now", reason="epoch.unsettled")
    seal_until, open_until = _moment(said.seal_until_ms), _moment(said.open_until_ms)
    if seal_until <= now:
        raise _rejected("the epoch has ended: nothing may be sealed to its key any more", "epoch.ended")
    trust.floors.check_suite(said.hpke_suite)
    _check_signed(said.policy, worker.owner)
    check_no_wider(said.policy.policy, said.model_name, trust)
    key = JobKey(
        model_name=said.model_name,
        epoch=said.epoch,
        suite=said.hpke_suite,
        public=said.hpke_public,
        seal_until=seal_until,
        open_until=open_until,
    )
    return BelievedEpoch(key, said.policy.policy)


def choose_epoch(workers: Sequence[VerifiedWorker], trust: TrustBundle, now: datetime) -> JobKey:
    """Choose what to seal to, of what believed workers offer.

    The owner's newest policy counts. Of the epochs under it, the oldest that may still be sealed to: whoever has a
    newer one has it too, while the newest only those have whose lease was renewed since it began.

    Raises:
        NotReady: None of them takes jobs (reason `epoch.missing`).
        EvidenceRejected, Unavailable: No epoch is believed, or none yet; the reason is that of the first.
    """
    believed: list[BelievedEpoch] = []
    refusals: list[EvidenceRejected | Unavailable] = []
    for worker in workers:
        if worker.job_epoch is not None:
            try:
                believed.append(believe_epoch(worker, trust, now))
            except (EvidenceRejected, Unavailable) as error:
                refusals.append(error)
    if not believed and refusals:
        raise refusals[0]
    if not believed:
        raise NotReady("no worker of this model that is believed takes jobs", reason="epoch.missing")
    newest = max(believed, key=lambda each: each.key.epoch)
    return min((each.key for each in believed if each.policy == newest.policy), key=lambda key: key.epoch)


def _check_signed(signed: SignedReleasePolicy, owner: bytes) -> None:
    try:
        verified_policy(signed.policy, signed.signature, owner, signed.signer_sets)
    except InvalidRequest as error:
        if error.reason == "policy.invalid":
            raise _rejected(
                f"the epoch's release policy is none that this client knows: {error}", "epoch.policy_other"
            ) from error
        raise _unsigned(str(error)) from error
    except SealBroken as error:
        raise _unsigned("the signature is another's") from error


def _unsigned(why: str) -> EvidenceRejected:
    return _rejected(f"the epoch's policy is not signed by those who may: {why}", "epoch.policy_unsigned")


def _moment(unix_ms: int) -> datetime:
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=unix_ms)
    except OverflowError as error:
        raise _rejected("the epoch has no end", "epoch.other") from error


def _rejected(message: str, reason: str) -> EvidenceRejected:
    return EvidenceRejected(message, reason=reason)
