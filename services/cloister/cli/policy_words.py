"""An appraisal policy in words for a person, and as plain values for a script."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from cloister.cli.output import facts, say, warn
from cloister.client import PolicyDocument, status_meaning

NEVER: Final = (
    "revoked platforms; debug enclaves, and those with provisioning or launch keys; trust domains that are in debug "
    "mode, migratable, under a service domain or without SEPT_VE_DISABLE"
)


def print_policy(document: PolicyDocument) -> None:
    """Say what a policy accepts, and whose word it is."""
    policy = document.policy
    version = f"version {policy.version}" if policy.version else "without a version"
    say(f"policy '{policy.policy_id}', {version}", "bold")
    facts({**_origin(document), **_platform(document), **_places(document), "refused always": NEVER}, indent="  ")
    for n, value in enumerate(policy.reference_values, start=1):
        say(f"  enclave {n}", "bold")
        facts(_named(asdict(value)), indent="    ")
    for n, domain in enumerate(policy.td_reference_values, start=1):
        say(f"  trust domain {n}", "bold")
        facts({"measurement": domain.measurement.digest.hex(), **_named(asdict(domain))}, indent="    ")
    if not policy.version:
        warn("It has no version, so it can be neither signed nor applied: begin with 'version = 1'.")
    if not policy.pins_code:
        warn("It names no code. Under Intel's root no verifier starts with it: add [[reference_values]].")


def plain_policy(document: PolicyDocument) -> dict[str, Any]:
    """The same for a script; bytes in hex."""
    policy = document.policy
    return {
        "policy_id": policy.policy_id,
        "version": policy.version,
        "digest": policy.digest.hex(),
        "signed_by": sorted(document.signers),
        "accepted_statuses": sorted(policy.accepted_statuses),
        "grace_days": {str(grace.status): grace.days for grace in policy.grace},
        "accepted_advisories": sorted(policy.accepted_advisories),
        "minimum_evaluation": policy.minimum_evaluation,
        "minimum_tcb_date": policy.minimum_tcb_date.isoformat() if policy.minimum_tcb_date else None,
        "allow_zero_padding": policy.allow_zero_padding,
        "reference_values": [_plain(asdict(value)) for value in policy.reference_values],
        "td_reference_values": [
            {"td_measurement": value.measurement.digest.hex(), **_plain(asdict(value))}
            for value in policy.td_reference_values
        ],
        "platforms": _plain(asdict(policy.platforms)),
    }


def _origin(document: PolicyDocument) -> dict[str, object]:
    return {
        "digest": document.policy.digest.hex(),
        "signed by": ", ".join(sorted(document.signers)) or "nobody",
    }


def _platform(document: PolicyDocument) -> dict[str, object]:
    policy = document.policy
    accepted = {f"accepts {status}": status_meaning(status) for status in sorted(policy.accepted_statuses)}
    late = {
        f"for {grace.days} days {grace.status}": f"{status_meaning(grace.status)}; counted from the TCB date"
        for grace in policy.grace
    }
    dates = {"TCB date": f"{policy.minimum_tcb_date} or later"} if policy.minimum_tcb_date else {}
    return {
        **accepted,
        **late,
        "advisories": f"{', '.join(sorted(policy.accepted_advisories)) or 'none'}; any other is refused",
        "collateral": f"evaluation number {policy.minimum_evaluation} or higher",
        **dates,
    }


def _places(document: PolicyDocument) -> dict[str, object]:
    policy, rule = document.policy, document.policy.platforms
    enforced = rule.mode.value == "enforce"
    who = f"only {len(rule.allow)} that are named" if enforced else "any that is genuine"
    padding = {"padding": "zero bytes may follow a quote"} if policy.allow_zero_padding else {}
    return {"platforms": f"{who}, and {len(rule.deny)} refused by name", **padding}


def _named(members: dict[str, Any]) -> dict[str, object]:
    """Members that say something, on one level: what is zero or None is not named in the file."""
    named: dict[str, object] = {}
    for name, value in _plain(members).items():
        if isinstance(value, dict):
            named |= _named(value)
        elif isinstance(value, list):
            named |= {f"{name[:-1]}{n}": each for n, each in enumerate(value) if each.strip("0")}
        elif value is not None and (value if isinstance(value, int) else value.strip("0")):
            named[name] = value
    return named


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, frozenset):
        return sorted(_plain(each) for each in value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
