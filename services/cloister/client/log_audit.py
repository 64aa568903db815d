"""What an audit of the whole record comes to, from what verifier and provisioner show of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cloister.client.audit_memory import Remembered
from cloister.client.log_checks import LinePass, LogKeys, Resumed, SignedHead, check_same_keys, signed_head
from cloister.errors import LogBroken
from cloister.tlog.cosignature import WitnessKey


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAudit:
    """What an audit of the record found: it holds together, or there would have been an error.

    Attributes:
        head: The newest that counts.
        lines: How many were looked at.
        newer: How many of them came after that head; they are countersigned by the next.
        kept_size: How many lines were found good here before, and are there still; None at first contact.
        resumed: Where an operator had the log go on after a loss.
        keys: Whom all of it rests on.
    """

    head: SignedHead
    lines: int
    newer: int
    kept_size: int | None
    resumed: tuple[Resumed, ...]
    keys: LogKeys

    @property
    def is_first_contact(self) -> bool:
        """Whether its keys were pinned by this very audit."""
        return self.kept_size is None


class Shown(NamedTuple):
    """What verifier and provisioner show of the log, before any of it is believed.

    Attributes:
        witness: The verifier's key.
        countersigned: Its newest head; empty for none.
        log_key: Of the log, as the provisioner says.
        newest: The provisioner's own newest head.
    """

    witness: WitnessKey
    countersigned: str
    log_key: bytes
    newest: str


def believed(
    shown: Shown, memory: Remembered | None, *, witness: WitnessKey | None = None, may_be_older: bool = False
) -> tuple[LogKeys, SignedHead, SignedHead]:
    """The keys that count, the witness's head, and the provisioner's: of a log without a witness the same twice.

    Args:
        shown: Of the log.
        memory: What was found good before.
        witness: Whom the trust bundle names, for who has seen nothing before.
        may_be_older: Whether it may be of an earlier time than that.

    Raises:
        LogBroken: One is signed by nobody who counts, or is older than what was found good before.
        InvalidRequest: One is none.
    """
    if memory is None:
        named = witness or (shown.witness if shown.countersigned else None)
        keys = LogKeys(shown.log_key, frozenset({named} if named is not None else ()))
    else:
        keys = memory.keys
    check_same_keys(keys, shown.log_key, shown.witness)
    newest = signed_head(shown.newest, keys, countersigned=False)
    if not keys.witnesses:
        return keys, newest, newest
    if not shown.countersigned:
        raise LogBroken("the witness has forgotten the log", reason="witness.rolled_back")
    head = signed_head(shown.countersigned, keys)
    if memory is not None and not may_be_older and _is_older(head, memory):
        raise LogBroken(
            f"the witness had countersigned {memory.head.size} lines before, and now {head.head.size}",
            reason="witness.rolled_back",
        )
    return keys, head, newest


def concluded(
    lines: LinePass, keys: LogKeys, head: SignedHead, newest: SignedHead, memory: Remembered | None
) -> LogAudit:
    """What follows from all lines; raises LogBroken where they do not lead to every head that counts."""
    lines.check(head.head, "the head that was countersigned")
    lines.check(newest.head, "the head that the provisioner signed")
    kept_size = memory.head.size if memory is not None else None
    if memory is not None and not _is_older(head, memory):
        kept_size = lines.check_kept(memory.head, head.generation)
    return LogAudit(
        head=head,
        lines=lines.size,
        newer=lines.size - head.head.size,
        kept_size=kept_size,
        resumed=tuple(lines.resumed),
        keys=keys,
    )


def sizes_of(head: SignedHead, newest: SignedHead, memory: Remembered | None) -> set[int]:
    """After how many lines the root is looked at."""
    return {head.head.size, newest.head.size, *([memory.head.size] if memory is not None else [])}


def _is_older(head: SignedHead, memory: Remembered) -> bool:
    return head.generation == memory.generation and head.head.size < memory.head.size
