"""Whom a model's release policy lets have its keys, held against whom this client believes. Pure.

A client that seals to a worker judges that worker. One that seals a job to an epoch key does not know who will open it:
whoever satisfies the release policy under which the epoch began. So the policy itself is judged: it may let in nobody
whom this client would refuse. What release policies do not speak of (advisories, evaluation numbers, KSS fields, and
platforms where it names none) the verifier's own policy decides for each of them; `verifier_policies` in the trust
bundle pins that for the worker that vouches for the epoch, and for the one that answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from cloister.appraisal.reference import PlatformMode
from cloister.client.bundle import TrustBundle
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister.seal.release_policy import SignerRule, parse_policy

_SHOWN: Final = 16


def check_no_wider(raw: bytes, model_name: str, trust: TrustBundle) -> None:
    """Check that a release policy lets in nobody whom a client with this trust bundle would refuse.

    Args:
        raw: The policy's bytes, as the model's owner signed them.
        model_name: Whose it must be.
        trust: Whom the client believes.

    Raises:
        EvidenceRejected: It does, and the message names what (`epoch.policy_wider`); or it is of another model or mesh,
            or does not parse (`epoch.policy_other`).
    """
    try:
        policy = parse_policy(raw)
    except InvalidRequest as error:
        raise _rejected(
            f"the epoch's release policy is none that this client knows: {error}", "epoch.policy_other"
        ) from (error)
    if (policy.model_name, policy.cluster) != (model_name, trust.cluster):
        raise _rejected("the epoch's release policy is of another model or mesh", "epoch.policy_other")
    if policy.allow_simulated and not trust.anchor.simulated:
        raise _wider("workers whose hardware is simulated")
    accepted = {status.value for status in trust.policy().accepted_statuses}
    if others := policy.tcb_statuses - accepted:
        raise _wider(f"platforms whose TCB status is {min(others)}")
    for measurement in sorted(policy.mrenclave):
        _check_enclave(measurement, trust)
    for measurement in sorted(policy.td_measurement):
        _check_trust_domain(measurement, trust)
    for rule in policy.signers:
        _check_signer(rule, trust)
    if policy.platforms is not None:
        _check_platforms(policy.platforms, trust)


def _check_enclave(measurement: str, trust: TrustBundle) -> None:
    wanted = trust.policy().reference_values
    named = trust.mrenclave is None or measurement in trust.mrenclave
    # A reference value that names a signer besides admits less than the measurement alone.
    valued = not wanted or any(
        value.mrsigner is None and value.mrenclave is not None and value.mrenclave.hex() == measurement
        for value in wanted
    )
    if not (trust.pins_enclaves and named and valued):
        raise _wider(f"SGX enclaves that measure {measurement[:_SHOWN]}…")


def _check_trust_domain(measurement: str, trust: TrustBundle) -> None:
    wanted = trust.policy().td_reference_values
    named = trust.td_measurement is None or measurement in trust.td_measurement
    valued = not wanted or any(value.measurement.digest.hex() == measurement for value in wanted)
    if not (trust.pins_trust_domains and named and valued):
        raise _wider(f"TDX trust domains that measure {measurement[:_SHOWN]}…")


def _check_signer(rule: SignerRule, trust: TrustBundle) -> None:
    """A signer's next enclave is on no list of measurements: only a reference value of that signer admits it."""
    known = trust.mrenclave is None and any(
        value.mrenclave is None
        and value.mrsigner is not None
        and value.mrsigner.hex() == rule.mrsigner
        and value.isvprodid == rule.isvprodid
        and value.minimum_isvsvn is not None
        and value.minimum_isvsvn <= rule.min_isvsvn
        for value in trust.policy().reference_values
    )
    if not known:
        named = f"{rule.mrsigner[:_SHOWN]}… as its product {rule.isvprodid}"
        raise _wider(f"whatever the signer {named} signs from security version {rule.min_isvsvn} on")


def _check_platforms(platforms: frozenset[str], trust: TrustBundle) -> None:
    """Of platforms that an owner names, none may be one that this client refuses by name, or for want of it."""
    rule = trust.policy().platforms
    wanted = _digests(rule.allow) if rule.mode is PlatformMode.ENFORCE else platforms
    if others := (platforms & _digests(rule.deny)) | (platforms - wanted):
        raise _wider(f"the platform {min(others)[:_SHOWN]}…")


def _digests(ppids: Iterable[bytes]) -> frozenset[str]:
    return frozenset(hashlib.sha256(each).hexdigest() for each in ppids)


def _wider(whom: str) -> EvidenceRejected:
    return _rejected(
        f"the model's release policy lets {whom} have the key that jobs are sealed to, and the trust bundle would not "
        "believe them",
        "epoch.policy_wider",
    )


def _rejected(message: str, reason: str) -> EvidenceRejected:
    return EvidenceRejected(message, reason=reason)
