"""What a model's owner and the mesh demand of who is to have its key, rule by rule. Pure.

The provisioner decides by these rules, and `cloister policy explain` shows them: the same arguments give both the same
answer. Each rule is judged whether or not another has objected before, so that an owner sees all that is in the way.
What a finding says is for the owner: it names measurements, statuses and platforms, and no secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cloister.ear import AttestationResult
from cloister.ear.code import SGX
from cloister.seal.release_policy import ReleasePolicy

WORKER_ROLE: Final = "worker"
# AR4SI trust tiers: 0 no claim, 2 to 31 affirming, 32 to 95 warning, 96 and above contraindicated. 1 and negative
# values say that the Verifier could not tell.
_VOUCHED: Final = range(2, 96)
_NO_CLAIM: Final = 0
_SHOWN: Final = 8
"""So many entries of a list are named; a policy may have hundreds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule comes to for one worker.

    Attributes:
        rule: Its name.
        demanded: What the policy or the mesh asks for, in words.
        found: What the Attestation Result, or the model's version, says.
        reason: Stable, of the refusal; empty where the rule is met.
    """

    rule: str
    demanded: str
    found: str
    reason: str = ""

    @property
    def met(self) -> bool:
        """Whether the rule has nothing against it."""
        return not self.reason

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason or 'met'}; demanded {self.demanded}; found {self.found}"


def judged(
    result: AttestationResult, policy: ReleasePolicy, *, model_version: int, cluster: str
) -> tuple[Finding, ...]:
    """Judge whether the bearer of `result` may have the key of this version of the policy's model, by every rule.

    Signature, life, single use and possession are settled elsewhere; this is what the owner and the mesh demand.
    """
    return (
        _member(result, cluster),  # 1 it speaks of a member of this mesh
        _worker(result),  # 2 which is a worker
        _genuine(result, policy),  # 3 on hardware the owner accepts
        _vouched(result),  # 4 with nothing that the verifier holds against code or configuration
        _patched(result, policy),  # 5 patched as the owner demands
        _measured(result, policy),  # 6 running code the owner named
        _closed(result),  # 7 that nobody can look into
        _placed(result, policy),  # 8 on a machine the owner accepts
        _recent(model_version, policy),  # 9 for a model version still allowed
    )


def _member(result: AttestationResult, cluster: str) -> Finding:
    return _finding("cluster", cluster, result.cluster, result.cluster == cluster, "cluster.other")


def _worker(result: AttestationResult) -> Finding:
    expected = f"spiffe://{result.cluster}/{WORKER_ROLE}/{result.instance}"
    met = result.role == WORKER_ROLE and result.spiffe_id == expected
    return _finding("role", f"{WORKER_ROLE} {expected}", f"{result.role} {result.spiffe_id}", met, "role.other")


def _genuine(result: AttestationResult, policy: ReleasePolicy) -> Finding:
    demanded = "genuine hardware, or simulated" if policy.allow_simulated else "genuine hardware"
    found = f"{'simulated' if result.simulated else 'not simulated'}, {result.anchor}, hardware {result.hardware}"
    if result.simulated:
        return _finding("hardware", demanded, found, policy.allow_simulated, "hardware.simulated")
    return _finding("hardware", demanded, found, result.hardware in _VOUCHED, "hardware.contraindicated")


def _vouched(result: AttestationResult) -> Finding:
    # The policy names the code itself, so the Verifier may leave it open; it may not object.
    tiers = (result.executables, result.configuration)
    met = all(tier == _NO_CLAIM or tier in _VOUCHED for tier in tiers)
    found = f"executables {result.executables}, configuration {result.configuration}"
    return _finding("trustworthiness", "no objection", found, met, "trustworthiness.contraindicated")


def _patched(result: AttestationResult, policy: ReleasePolicy) -> Finding:
    met = result.tcb_status in policy.tcb_statuses
    return _finding("tcb", _any_of(policy.tcb_statuses), result.tcb_status, met, "tcb.not_allowed")


def _measured(result: AttestationResult, policy: ReleasePolicy) -> Finding:
    demanded = _code_demanded(policy)
    if result.td is not None:
        found = f"trust domain {result.measurement}"
        if not policy.td_measurement:
            return Finding("code", demanded, found, "tee.other")
        met = result.measurement in policy.td_measurement
        return _finding("code", demanded, found, met, "measurement.not_allowed")
    found = f"{result.tee} {result.mrenclave}, signer {result.mrsigner}:{result.isvprodid}:{result.isvsvn}"
    if result.tee != SGX:
        return Finding("code", demanded, found, "tee.other")
    by_signer = any(
        result.mrsigner == rule.mrsigner and result.isvprodid == rule.isvprodid and result.isvsvn >= rule.min_isvsvn
        for rule in policy.signers
    )
    met = result.mrenclave in policy.mrenclave or by_signer
    return _finding("code", demanded, found, met, "measurement.not_allowed")


def _code_demanded(policy: ReleasePolicy) -> str:
    signers = (f"signer {rule.mrsigner}:{rule.isvprodid}:{rule.min_isvsvn} or higher" for rule in policy.signers)
    domains = (f"trust domain {measurement}" for measurement in sorted(policy.td_measurement))
    return _any_of((*(f"{SGX} {measurement}" for measurement in sorted(policy.mrenclave)), *domains, *signers))


def _closed(result: AttestationResult) -> Finding:
    found = "none" if result.debug is False else "open to a debugger"
    return _finding("debug", "none", found, result.debug is False, "enclave.debug")


def _placed(result: AttestationResult, policy: ReleasePolicy) -> Finding:
    demanded = "any" if policy.platforms is None else _any_of(policy.platforms)
    met = policy.platforms is None or result.ppid_sha256 in policy.platforms
    return _finding("platform", demanded, result.ppid_sha256, met, "platform.not_allowed")


def _recent(model_version: int, policy: ReleasePolicy) -> Finding:
    met = model_version >= policy.min_model_version
    demanded = f"{policy.min_model_version} or higher"
    return _finding("model version", demanded, str(model_version), met, "model.version_too_old")


def _finding(rule: str, demanded: str, found: str, met: bool, reason: str) -> Finding:
    return Finding(rule, demanded, found, "" if met else reason)


def _any_of(wanted: Iterable[str]) -> str:
    names = sorted(wanted)
    more = f", or {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
