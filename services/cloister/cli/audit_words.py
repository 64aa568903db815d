"""What an audit found, and what a line means, in words and as JSON."""

from __future__ import annotations

from typing import Any

from cloister.client.log_audit import LogAudit
from cloister.client.log_checks import LogKeys, Resumed, SignedHead
from cloister.client.operator import AuditLine
from cloister.console.event_words import event


def line_title(line: AuditLine) -> str:
    """What a line means, on one line."""
    told = event(line, "provisioner")
    return f"{told['title']}: {told['why']}" if told["why"] else str(told["title"])


def line_plain(line: AuditLine) -> dict[str, Any]:
    """A line for a script."""
    return {**line.content, "leaf_hash": line.leaf_hash.hex(), "meaning": line_title(line)}


def audit_plain(audit: LogAudit) -> dict[str, Any]:
    """What an audit found, for a script."""
    head = audit.head.head
    return {
        "good": True,
        "origin": head.origin,
        "size": head.size,
        "root": head.root.hex(),
        "lines": audit.lines,
        "newer": audit.newer,
        "seen_before": audit.kept_size,
        "log_key": audit.keys.log.hex(),
        "witnesses": sorted(each.vkey for each in audit.keys.witnesses),
        "countersigned_at": {each.vkey: at.isoformat() for each, at in audit.head.countersigned_at.items()},
        "resumed": [_resumed_plain(each) for each in audit.resumed],
        "checkpoint": str(audit.head.note),
    }


def verdict(audit: LogAudit, *, memory: str = "", source: str = "") -> tuple[str, list[str]]:
    """One sentence, and what must not be missed.

    Args:
        audit: What was found.
        memory: Where it is remembered.
        source: The file that it was found in; empty for what came over the wire.
    """
    size = audit.head.head.size
    lines = f"{audit.lines} line{'s' if audit.lines != 1 else ''}"
    good = f"good: {lines}, under a head of {size} that the log signed{_countersigned(audit.head)}"
    if audit.kept_size is not None and audit.kept_size <= size:
        good += f"; nothing has changed in the {audit.kept_size} that were seen here before"
    if audit.newer > 0:
        good += f"; {audit.newer} of the lines are newer, and come under the next head"
    return good, [*_pinned(audit, memory, source), *_weak(audit), *map(_lost, audit.resumed)]


def _countersigned(head: SignedHead) -> str:
    witnesses = [f"{key.name} ({at:%Y-%m-%d %H:%M:%S} UTC)" for key, at in head.countersigned_at.items()]
    return f" and {', '.join(sorted(witnesses))} countersigned" if witnesses else ""


def pinning(keys: LogKeys, memory: str) -> str:
    """That keys were pinned just now, and which."""
    return f"first contact: these keys are pinned in {memory} now; compare them with another auditor's: {_named(keys)}"


def _pinned(audit: LogAudit, memory: str, source: str) -> list[str]:
    if not audit.is_first_contact:
        return []
    if source:
        keys = _named(audit.keys)
        return [
            f"by the keys in {source} itself, which nobody vouches for; compare them with another auditor's: {keys}"
        ]
    return [pinning(audit.keys, memory)]


def _named(keys: LogKeys) -> str:
    return ", ".join((f"log {keys.log.hex()}", *sorted(each.vkey for each in keys.witnesses)))


def _weak(audit: LogAudit) -> list[str]:
    if not audit.keys.witnesses:
        return ["no witness countersigns this record: of an older copy in its place only this auditor would know"]
    if audit.kept_size is not None and audit.kept_size > audit.head.head.size:
        return [f"older than what was seen here before, which was {audit.kept_size} lines"]
    return []


def _lost(resumed: Resumed) -> str:
    said = resumed.said
    return (
        f"line {resumed.sequence}: the operator had the log go on after a loss; {resumed.lost} countersigned lines "
        f"after line {said.have_size} are gone"
    )


def _resumed_plain(resumed: Resumed) -> dict[str, Any]:
    said = resumed.said
    return {"line": resumed.sequence, "had": said.should_size, "kept": said.have_size, "lost": resumed.lost}
