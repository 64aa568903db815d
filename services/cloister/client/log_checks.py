"""What makes an auditor believe the provisioner's record: signatures, and hashes of every line. Pure.

The log's key and the keys of its witnesses are pinned at first contact. A head counts when the log has signed it and a
majority of the pinned witnesses has countersigned it. The lines must lead to that head, to the one that the provisioner
shows, and to the one that this auditor kept last time: so a line that is changed, taken out, moved or hidden, an end
that is cut off and a history beside the one that was seen are all found out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cloister.client.operator import AuditLine
from cloister.errors import InvalidRequest, LogBroken
from cloister.kit.log_origin import RESUMED, LogOrigin, Resumption
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.cosignature import WitnessKey
from cloister.tlog.merkle import Frontier, root
from cloister.tlog.note import Ed25519Key, SignedNote

_MAX_DATE_S: Final = 253_402_300_799


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Whom an auditor believes about one log.

    Attributes:
        log: The Ed25519 key that heads are signed with, 32 bytes.
        witnesses: Those whose countersignatures count.
    """

    log: bytes
    witnesses: frozenset[WitnessKey]


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head of the log, as its signatures were found to be.

    Attributes:
        note: Whole.
        head: In it.
        countersigned_at: When each witness that is believed did, by its name and key; empty for a log without one.
    """

    note: SignedNote
    head: Checkpoint
    countersigned_at: Mapping[WitnessKey, datetime]

    @property
    def generation(self) -> int:
        """Of the log."""
        return LogOrigin.parse(self.head.origin).generation


@dataclass(frozen=True, slots=True)
class Resumed:
    """A line by which an operator had the log go on after a loss.

    Attributes:
        sequence: Of the line.
        said: By it.
    """

    sequence: int
    said: Resumption

    @property
    def lost(self) -> int:
        """How many countersigned lines are gone."""
        return max(0, self.said.should_size - self.said.have_size)


def signed_head(text: str, keys: LogKeys, *, countersigned: bool = True) -> SignedHead:
    """Believe a head.

    Args:
        text: A signed note.
        keys: Whom to believe.
        countersigned: Whether a majority of the witnesses must have countersigned it.

    Raises:
        InvalidRequest: It is no head of a provisioner's log.
        LogBroken: A signature that must be there is not, or does not hold.
    """
    note = SignedNote.parse(text)
    head = Checkpoint.parse(note.text)
    LogOrigin.parse(head.origin)
    Ed25519Key(head.origin, keys.log).verify(note)
    found = {each: _date(each.verify(note)) for each in keys.witnesses if note.by(each)}
    if countersigned and len(found) <= len(keys.witnesses) // 2 and keys.witnesses:
        raise LogBroken(
            f"{len(found)} of {len(keys.witnesses)} witnesses have countersigned the head", reason="cosignature.missing"
        )
    return SignedHead(note, head, found)


class LinePass:
    """All lines, from the first one on, in order.

    Args:
        sizes: After so many lines each, the root is kept.

    Attributes:
        resumed: Lines by which the log went on after a loss.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        self.resumed: list[Resumed] = []
        self._tree = Frontier()
        self._roots = dict.fromkeys(sizes, b"")
        if 0 in self._roots:
            self._roots[0] = root([])

    @property
    def size(self) -> int:
        """Lines so far."""
        return self._tree.size

    def add(self, line: AuditLine) -> None:
        """Take the next line.

        Raises:
            LogBroken: It is not the next one (`line.missing`), or says something of a loss that cannot be
                (`line.altered`).
        """
        if line.sequence != self.size + 1:
            raise LogBroken(
                f"line {self.size + 1} is missing: after it comes line {line.sequence}", reason="line.missing"
            )
        self._tree.add(line.leaf_hash)
        if self.size in self._roots:
            self._roots[self.size] = self._tree.root()
        if line.content.get("event") == RESUMED:
            self._resume(line)

    def check(self, head: Checkpoint, whose: str) -> None:
        """Check that the lines lead to a head.

        Args:
            head: Of one of the `sizes`.
            whose: For the error: `the witness's head`.

        Raises:
            LogBroken: There are fewer lines (`log.truncated`), or others (`log.forked`).
        """
        if head.size > self.size:
            raise LogBroken(
                f"the record ends after line {self.size}, and {whose} is of {head.size}: its end was cut off or hidden",
                reason="log.truncated",
            )
        if self._roots[head.size] != head.root:
            raise LogBroken(
                f"the first {head.size} lines do not lead to {whose}: a line was changed, taken out, moved or put in",
                reason="log.forked",
            )

    def check_kept(self, kept: Checkpoint, generation: int) -> int:
        """Check that the log is what was seen of it before; returns how many lines are left of that.

        Args:
            kept: The head that was kept.
            generation: That the log is in now.

        Raises:
            LogBroken: As `check` and `left_of`.
        """
        left = left_of(kept, generation, self.resumed)
        if left == kept.size:
            self.check(kept, "the head that was seen here before")
        return left

    def _resume(self, line: AuditLine) -> None:
        self.resumed.append(resumption(line))


def resumption(line: AuditLine) -> Resumed:
    """Read a line by which the log went on; raises LogBroken (`line.altered`) where it cannot be that line."""
    said = Resumption.of(line.content)
    if said.have_size != line.sequence - 1:
        raise LogBroken(f"line {line.sequence} says of itself that it is another", reason="line.altered")
    return Resumed(line.sequence, said)


def left_of(kept: Checkpoint, generation: int, resumed: Iterable[Resumed]) -> int:
    """How many of the lines that were seen are left, by what the log says of its losses.

    Args:
        kept: The head that was seen.
        generation: That the log is in now.
        resumed: Its losses.

    Raises:
        LogBroken: It went back to an earlier generation, or whoever had it go on did not own up to all that was seen
            (`log.forked`).
    """
    began = LogOrigin.parse(kept.origin).generation
    if generation < began:
        raise LogBroken(f"the log was in generation {began} before, and is in {generation}", reason="log.forked")
    losses = [each for each in resumed if LogOrigin.parse(each.said.old_origin).generation >= began]
    left = min((each.said.have_size for each in losses), default=kept.size)
    if generation == began or left >= kept.size:
        return kept.size
    # Of two lines that had it go on from the same generation the witness took the later one.
    first = min(losses, key=lambda each: (LogOrigin.parse(each.said.old_origin).generation, -each.sequence))
    same_head = first.said.should_size == kept.size and first.said.should_root == kept.root
    if not same_head and first.said.should_size <= kept.size:
        raise LogBroken(
            f"{kept.size} lines were seen here, and line {first.sequence} owns up to {first.said.should_size}",
            reason="log.forked",
        )
    return left


def check_same_keys(keys: LogKeys, log: bytes, witness: WitnessKey) -> None:
    """Check that log and witness are those that were pinned.

    Raises:
        LogBroken: One is another (`log_key.other`, `witness_key.other`).
    """
    if keys.log != log:
        raise LogBroken("the record is signed with another key than was pinned", reason="log_key.other")
    if keys.witnesses and witness not in keys.witnesses:
        raise LogBroken("the witness is another than was pinned", reason="witness_key.other")


def log_key(vkey: str) -> bytes:
    """The public key of a log that names itself by its origin; raises InvalidRequest."""
    key = Ed25519Key.from_vkey(vkey)
    LogOrigin.parse(key.name)
    return key.public


def _date(time_s: int) -> datetime:
    if time_s > _MAX_DATE_S:
        raise InvalidRequest("a countersignature is from after the year 9999", reason="cosignature.malformed")
    return datetime.fromtimestamp(time_s, UTC)
