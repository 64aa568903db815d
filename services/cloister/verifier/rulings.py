"""What was ruled about a name last: that it is revoked, or that this revocation was lifted.

Verifiers that share their rulings hear them in any order, twice, and from files that are years old. So each revocation
has a version, a lift belongs to the one revocation that it lifts, and of two rulings about a name everyone keeps the
one of the higher rank: an older copy undoes neither a newer revocation nor its lift. Pure.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cloister.errors import InvalidRequest
from cloister.kit.revocation import Kind, Name
from cloister.verifier.lift_orders import milliseconds

MAX_REASON: Final = 256
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """One thing that is not believed any more.

    Attributes:
        by: SPIFFE id of who said so.
        ends_at: When it lifts itself; None for never.
    """

    name: Name
    reason: str
    by: str
    revoked_at: datetime
    ends_at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.reason.isprintable() or len(self.reason) > MAX_REASON:
            raise InvalidRequest(f"a reason has {MAX_REASON} printable characters at most", reason="revocation.invalid")


@dataclass(frozen=True, slots=True)
class Ruling:
    """One revocation, and whether it was lifted.

    Attributes:
        version: Grows with every revocation of the same name. Of one that lasts for good it is the time it was made, in
            ms, which is what a lift order names: nobody gives an old order to a newer revocation.
        order: Who signed the lift, for every verifier to check; empty where nobody had to.
    """

    revocation: Revocation
    version: int
    lifted: bool = False
    order: bytes = b""

    def __post_init__(self) -> None:
        if self.lasts and self.version != milliseconds(self.revocation.revoked_at):
            raise InvalidRequest("the version is not when it was revoked", reason="revocation.invalid")

    @property
    def name(self) -> Name:
        """What it is about."""
        return self.revocation.name

    @property
    def rank(self) -> tuple[int, bool, datetime, datetime, str, str]:
        """What decides between two rulings about a name.

        A lift is above its revocation and below the next. Of two revocations that two verifiers made as the same
        version, the one that lasts longer counts.
        """
        made = self.revocation
        ends_at = made.ends_at or datetime.max.replace(tzinfo=UTC)
        return self.version, self.lifted, ends_at, made.revoked_at, made.by, made.reason

    @property
    def lasts(self) -> bool:
        """Whether the revocation does not end by itself."""
        return self.revocation.ends_at is None

    def has_ended(self, now: datetime) -> bool:
        """Whether the revocation has lifted itself, and with it all that was ruled about it."""
        return self.revocation.ends_at is not None and self.revocation.ends_at <= now

    def binds(self, now: datetime) -> bool:
        """Whether what it names must not be believed now."""
        return not self.lifted and not self.has_ended(now)


def succeeding(held: Ruling | None, revocation: Revocation) -> Ruling:
    """The ruling that makes this revocation, where `held` was the last about its name.

    Verifiers that have not heard of each other's revocations go by the time; where a clock is behind what was held, by
    that. One that ends by itself is no later than it must be: it never takes the place of one for good that its
    verifier had not heard of.
    """
    version = held.version + 1 if held is not None else 1
    if revocation.ends_at is not None:
        return Ruling(revocation, version)
    if (made_at_ms := milliseconds(revocation.revoked_at)) >= version:
        return Ruling(revocation, made_at_ms)
    later = _EPOCH + timedelta(milliseconds=version, microseconds=500)
    return Ruling(replace(revocation, revoked_at=later), version)


def encoded(rulings: Sequence[Ruling]) -> bytes:
    """Rulings as JSON, on disk and between verifiers."""
    return json.dumps([_row(each) for each in rulings], indent=1).encode()


def decoded(raw: bytes) -> list[Ruling]:
    """Read them; raises ValueError, KeyError, TypeError or InvalidRequest where they are none."""
    rows = json.loads(raw)
    if not isinstance(rows, list):
        raise ValueError("no list")
    return [_read(row) for row in rows]


def _row(ruling: Ruling) -> dict[str, Any]:
    made = ruling.revocation
    return {
        "kind": made.name.kind.value,
        "value": made.name.value,
        "reason": made.reason,
        "by": made.by,
        "revoked_at": made.revoked_at.isoformat(),
        "ends_at": made.ends_at.isoformat() if made.ends_at is not None else None,
        "version": ruling.version,
        "lifted": ruling.lifted,
        "order": b64encode(ruling.order).decode(),
    }


def _read(row: dict[str, Any]) -> Ruling:
    revocation = Revocation(
        name=Name.read(Kind(row["kind"]), str(row["value"])),
        reason=str(row["reason"]),
        by=str(row["by"]),
        revoked_at=datetime.fromisoformat(row["revoked_at"]).astimezone(UTC),
        ends_at=datetime.fromisoformat(row["ends_at"]).astimezone(UTC) if row["ends_at"] is not None else None,
    )
    if "version" not in row:  # by a verifier that kept revocations only
        return succeeding(None, revocation)
    return Ruling(revocation, int(row["version"]), row["lifted"] is True, b64decode(row["order"], validate=True))
