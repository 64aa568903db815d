"""Whether an attested worker may have a model's key. Pure: the same arguments give the same answer."""

from __future__ import annotations

from cloister.ear import AttestationResult
from cloister.ear.code import SGX
from cloister.errors import KeyRefused
from cloister.seal.release_policy import ReleasePolicy

AUDIENCE = "provisioner"
ROLE = "worker"

# AR4SI trust tiers: 0 no claim, 2 to 31 affirming, 32 to 95 warning, 96 and above contraindicated. 1 and negative
# values say that the Verifier could not tell.
_VOUCHED = range(2, 96)
_NO_CLAIM = 0


def decide(result: AttestationResult, policy: ReleasePolicy, *, model_version: int, cluster: str) -> None:
    """Decide whether the bearer of `result` may have the key of this version of the policy's model.

    Signature, life, single use and possession were settled before; this is what the owner and the mesh demand.

    Raises:
        KeyRefused: With the reason of the first rule that objects, for the record; the worker is not told.
    """
    _same_cluster(result, cluster)  # 1 it speaks of a member of this mesh
    _worker(result)  # 2 which is a worker
    _for_us(result)  # 3 and was meant for this service
    _genuine(result, policy)  # 4 on hardware the owner accepts
    _patched(result, policy)  # 5 patched as the owner demands
    _measured(result, policy)  # 6 running code the owner named
    _not_debuggable(result)  # 7 that nobody can look into
    _recent(model_version, policy)  # 8 for a model version still allowed


def _same_cluster(result: AttestationResult, cluster: str) -> None:
    if result.cluster != cluster:
        raise _refused("the result is of another cluster", "cluster.other")


def _worker(result: AttestationResult) -> None:
    expected = f"spiffe://{result.cluster}/{ROLE}/{result.instance}"
    if result.role != ROLE or result.spiffe_id != expected:
        raise _refused("the result is not of a worker", "role.other")


def _for_us(result: AttestationResult) -> None:
    if result.audience != AUDIENCE:
        raise _refused("the result is meant for another service", "audience.other")


def _genuine(result: AttestationResult, policy: ReleasePolicy) -> None:
    if result.simulated:
        if not policy.allow_simulated:
            raise _refused("the policy does not allow simulated hardware", "hardware.simulated")
    elif result.hardware not in _VOUCHED:
        raise _refused("the verifier does not vouch for the hardware", "hardware.contraindicated")
    # The policy names the code itself, so the Verifier may leave it open; it may not object.
    if any(tier != _NO_CLAIM and tier not in _VOUCHED for tier in (result.executables, result.configuration)):
        raise _refused("the verifier does not vouch for code or configuration", "trustworthiness.contraindicated")


def _patched(result: AttestationResult, policy: ReleasePolicy) -> None:
    if result.tcb_status not in policy.tcb_statuses:
        raise _refused("the policy does not allow this TCB status", "tcb.not_allowed")


def _measured(result: AttestationResult, policy: ReleasePolicy) -> None:
    if result.td is not None:
        if not policy.td_measurement:
            raise _refused("the policy names enclaves only, and this is a trust domain", "tee.other")
        if result.measurement not in policy.td_measurement:
            raise _refused("the policy does not name this trust domain's measurement", "measurement.not_allowed")
        return
    if result.tee != SGX:
        raise _refused("release policies speak of SGX enclaves and TDX trust domains only", "tee.other")
    by_signer = any(
        result.mrsigner == rule.mrsigner and result.isvprodid == rule.isvprodid and result.isvsvn >= rule.min_isvsvn
        for rule in policy.signers
    )
    if result.mrenclave not in policy.mrenclave and not by_signer:
        raise _refused("the policy names neither this measurement nor its signer", "measurement.not_allowed")


def _not_debuggable(result: AttestationResult) -> None:
    if result.debug is not False:
        raise _refused("the enclave can be debugged", "enclave.debug")


def _recent(model_version: int, policy: ReleasePolicy) -> None:
    if model_version < policy.min_model_version:
        raise _refused("the policy no longer allows this version of the model", "model.version_too_old")


def _refused(message: str, reason: str) -> KeyRefused:
    return KeyRefused(message, reason=reason)
