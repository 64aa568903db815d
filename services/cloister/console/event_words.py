"""Lines of the two records as the console tells them: what happened, how grave it is, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cloister.client import AuditLine, step_meaning
from cloister.console.reasons import reason_words

GOOD, PLAIN, WARN, BAD = "good", "plain", "warn", "bad"
Event = dict[str, Any]

_SAID: Final = (
    *("reason", "model", "version", "instance", "mrenclave", "td_measurement"),
    *("purpose", "peer", "step", "anchor", "tcb_status"),
)


def event(line: AuditLine, record: str) -> Event:
    """One line, with plain values only; whatever stands in it is a name somebody chose."""
    said = line.content
    tone, title = _TITLES.get(_text(said, "event"), _other)(said)
    return {
        "record": record,
        "sequence": line.sequence,
        "time": _text(said, "time"),
        "event": _text(said, "event"),
        "tone": tone,
        "title": title,
        "why": _why(said),
        "simulated": said.get("simulated") is True,
        **{name: _text(said, name) for name in _SAID if said.get(name) not in (None, "")},
    }


def _why(said: Mapping[str, Any]) -> str:
    reason, step = _text(said, "reason"), said.get("step")
    words = reason_words(reason) if reason else _text(said, "why")
    if isinstance(step, int) and step:
        words += f"; check {step} objected: {step_meaning(step)}"
    return words


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return "" if value is None else str(value)[:256]


def _model(said: Mapping[str, Any]) -> str:
    version = _text(said, "version")
    return f"{_text(said, 'model')}@{version}" if version not in ("", "0") else _text(said, "model")


def _accepted(said: Mapping[str, Any]) -> tuple[str, str]:
    asked = "to ask for a key" if said.get("purpose") == "key_release" else "as a member of the mesh"
    return GOOD, f"Evidence believed, {asked}"


def _revoked(said: Mapping[str, Any]) -> tuple[str, str]:
    return BAD, f"Worker put out of the mesh: {_text(said, 'cause') or 'revoked'}"


def _other(said: Mapping[str, Any]) -> tuple[str, str]:
    return PLAIN, _text(said, "event")


_TITLES: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]]] = {
    "log.begun": lambda said: (PLAIN, f"The record of {_text(said, 'origin')} begun"),
    "log.resumed": lambda said: (BAD, f"The record gone on with after line {_text(said, 'have_size')}, by an operator"),
    "log.first_seen": lambda said: (PLAIN, f"The record of {_text(said, 'origin')} seen for the first time"),
    "log.refused": lambda said: (BAD, "A head of the provisioner's record that cannot be was refused"),
    "key.released": lambda said: (GOOD, f"Key of {_model(said)} released"),
    "key.refused": lambda said: (BAD, f"Key of {_model(said)} refused"),
    "epoch.begun": lambda said: (
        PLAIN,
        f"Epoch {_text(said, 'epoch')} of {_text(said, 'model')} begun: a new key for jobs",
    ),
    "epoch.destroyed": lambda said: (
        PLAIN,
        f"Epoch {_text(said, 'epoch')} of {_text(said, 'model')} over: its key is gone",
    ),
    "recovery.dealt": lambda said: (
        WARN,
        f"Recovery key {_text(said, 'generation')} dealt: {_text(said, 'threshold')} of its holders open every key",
    ),
    "recovery.copied": lambda said: (PLAIN, f"Keys sealed to recovery key {_text(said, 'generation')}"),
    "recovery.begun": lambda said: (WARN, "The root key is lost: a recovery begun"),
    "recovery.share_given": lambda said: (PLAIN, f"A share of the recovery key given by {_text(said, 'by')}"),
    "refusals.muted": lambda said: (BAD, f"Refused so often that not each has a line: {_text(said, 'peer')}"),
    "recovery.refused": lambda said: (BAD, f"A share of the recovery key refused, from {_text(said, 'by')}"),
    "recovery.ended": lambda said: (WARN, "A recovery ended, and restored nothing"),
    "recovery.restored": lambda said: (WARN, f"{_text(said, 'secrets')} keys restored by shares of their owners"),
    "model.registered": lambda said: (PLAIN, f"{_model(said)} registered by its owner"),
    "model.withdrawn": lambda said: (WARN, f"{_model(said)} withdrawn: its key goes to nobody"),
    "withdrawal.lifted": lambda said: (PLAIN, f"{_model(said)} given back: its key is released again"),
    "model.held": lambda said: (WARN, f"{_text(said, 'model')} held until its owner signs a policy anew"),
    "signers.set": lambda said: (
        PLAIN,
        f"{_text(said, 'threshold')} of signer set {_text(said, 'signer_set')} now sign for {_text(said, 'model')}",
    ),
    "root.rotation_begun": lambda said: (PLAIN, "The provisioner goes over to another root key"),
    "keys.rewrapped": lambda said: (PLAIN, "Keys wrapped anew, under the next root key"),
    "root.rotation_ended": lambda said: (PLAIN, "All keys lie under the next root key"),
    "state.taken_over": lambda said: (PLAIN, "What an earlier version of Cloister had stored was taken over"),
    "policy.set": lambda said: (PLAIN, f"Its owner said who may have the key of {_text(said, 'model')}"),
    "evidence.accepted": _accepted,
    "evidence.rejected": lambda said: (BAD, "Evidence not believed"),
    "member.revoked": _revoked,
    "revocation.made": lambda said: (WARN, f"Revoked: {_text(said, 'kind')} {_text(said, 'value')[:16]}"),
    "revocation.lifted": lambda said: (PLAIN, f"Revocation lifted: {_text(said, 'kind')} {_text(said, 'value')[:16]}"),
    "policy.applied": lambda said: (PLAIN, f"Appraisal policy {_text(said, 'policy_id')} in force"),
    "policy.refused": lambda said: (WARN, "An appraisal policy was refused"),
    "collateral.adopted": lambda said: (PLAIN, f"Collateral of {_text(said, 'family')} adopted"),
    "collateral.refused": lambda said: (WARN, f"Collateral of {_text(said, 'family') or 'no known family'} refused"),
}
