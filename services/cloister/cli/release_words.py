"""Release policies, signer sets and what the rules come to, in words for a person and as plain values for a script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cloister.api.v1.provisioner_pb2 import ModelSummary, ReleasePolicy
from cloister.cli.output import facts, say, table
from cloister.client import ExplainedWorker
from cloister.kit.signer_set import SignerSet

LIST_COLUMNS: Final = (
    "model",
    "owner",
    "policy",
    "measurements",
    "enclave signers",
    "platforms",
    "releases an hour",
    "simulated",
    "plain requests",
    "signed by",
)
_MAY: Final = {True: "yes", False: "no"}


def list_row(model: ModelSummary) -> tuple[object, ...]:
    """One line of `cloister model list`."""
    named = (f"{model.name}@{model.version}", model.owner)
    signs = f"signer set {len(model.signer_sets)}" if model.signer_sets else "its owner"
    if not model.HasField("policy"):
        return (*named, "none: nobody may have the key", *("",) * 6, signs)
    policy = model.policy
    return (
        *named,
        f"{policy.version}, held: allow anew" if model.held_since else policy.version,
        len(policy.mrenclave) + len(policy.td_measurement),
        len(policy.signers),
        len(policy.platforms.ppid_sha256) if policy.HasField("platforms") else "any",
        policy.releases_per_hour or "any",
        _MAY[policy.allow_simulated],
        _MAY[policy.allow_plain],
        signs,
    )


def plain_policy(policy: ReleasePolicy) -> dict[str, Any]:
    """A release policy for a script."""
    return {
        "version": policy.version,
        "mrenclave": list(policy.mrenclave),
        "td_measurement": list(policy.td_measurement),
        "signers": [
            {"mrsigner": rule.mrsigner, "isvprodid": rule.isvprodid, "min_isvsvn": rule.min_isvsvn}
            for rule in policy.signers
        ],
        "tcb_statuses": list(policy.tcb_statuses),
        "platforms": list(policy.platforms.ppid_sha256) if policy.HasField("platforms") else None,
        "releases_per_hour": policy.releases_per_hour,
        "allow_simulated": policy.allow_simulated,
        "allow_plain": policy.allow_plain,
        "lease_s": policy.lease_s,
        "min_model_version": policy.min_model_version,
        "signer_set": policy.signer_set,
        "log_generation": policy.log_generation,
    }


def print_policy(policy: ReleasePolicy) -> None:
    """Say what a release policy allows; whoever signs it reads this."""
    say(f"policy {policy.version} of {policy.model_name}, for the mesh {policy.cluster}", "bold")
    rules = (f"signer {rule.mrsigner}:{rule.isvprodid}:{rule.min_isvsvn} or higher" for rule in policy.signers)
    code = (*policy.mrenclave, *(f"trust domain {each}" for each in policy.td_measurement), *rules)
    platforms = ", ".join(policy.platforms.ppid_sha256) if policy.HasField("platforms") else "any"
    facts(
        {
            "code": "\n".join(code),
            "TCB statuses": ", ".join(policy.tcb_statuses),
            "platforms": platforms,
            "simulated": _MAY[policy.allow_simulated],
            "plain requests": _MAY[policy.allow_plain],
            "lease": f"{policy.lease_s} s",
            "releases an hour": policy.releases_per_hour or "any number",
            "model versions": f"{policy.min_model_version} or higher",
            "signed by": f"signer set {policy.signer_set}" if policy.signer_set else "the model's owner",
        },
        indent="  ",
    )


def plain_signers(signers: SignerSet) -> dict[str, Any]:
    """A signer set for a script."""
    return {
        "model": signers.model_name,
        "version": signers.version,
        "threshold": signers.threshold,
        "keys": list(signers.keys),
    }


def print_signers(signers: SignerSet) -> None:
    """Say who signs for a model."""
    if not signers.version:
        say(f"{signers.model_name} is its owner's alone to decide about: {signers.keys[0]}", "bold")
        return
    say(
        f"signer set {signers.version} of {signers.model_name}: {signers.threshold} of {len(signers.keys)} sign", "bold"
    )
    for key in signers.keys:
        say(f"  {key}")


def print_explained(found: Sequence[ExplainedWorker], policy: ReleasePolicy, version: int) -> None:
    """Say what each worker would get, and of who would get nothing, why."""
    named = f"{policy.model_name}@{version}"
    if not found:
        say("no worker is attested now, so nobody would get the key")
        return
    rows = [(one.instance, "the key" if one.entitled else "nothing", _objecting(one)) for one in found]
    table(("worker", f"would get of {named}", "because"), rows)
    for one in found:
        say("")
        say(f"worker {one.instance}", "bold")
        marked = [("yes" if each.met else "NO", each.rule, each.demanded, each.found) for each in one.findings]
        if one.refusal is not None:
            say(f"  its Attestation Result counts for nothing: {one.refusal} ({one.refusal.reason})")
        else:
            table(("", "rule", "demanded", "found"), marked)
    entitled = sum(one.entitled for one in found)
    kind = "sealed and plain requests" if policy.allow_plain else "sealed requests only"
    say("")
    say(f"{len(found)} judged by policy {policy.version}: {entitled} would get the key of {named}, the others nothing")
    say(f"a lease lasts {policy.lease_s} s, for {kind}", "dim")
    if policy.releases_per_hour:
        say(f"and of all that ask, {policy.releases_per_hour} in an hour", "dim")


def plain_explained(one: ExplainedWorker) -> dict[str, Any]:
    """The same of one worker, for a script."""
    return {
        "worker": one.instance,
        "entitled": one.entitled,
        "refusal": one.refusal.reason if one.refusal else None,
        "rules": [
            {
                "rule": each.rule,
                "met": each.met,
                "reason": each.reason or None,
                "demanded": each.demanded,
                "found": each.found,
            }
            for each in one.findings
        ],
    }


def _objecting(one: ExplainedWorker) -> str:
    if one.refusal is not None:
        return one.refusal.reason
    return ", ".join(each.reason for each in one.findings if not each.met) or "every rule is met"
