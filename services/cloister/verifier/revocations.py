"""What is revoked: in force from the moment it is on disk, past every restart (attacks E11, J14).

The list is small and read at every appraisal, so it is held whole. `RevocationStore` is where it is kept; a mesh with
several verifiers puts one in its place that they share. A revocation may end by itself: that is how a member which no
longer passes today's policy is put out for as long as its results live, and no longer.

`check` and the properties are for any thread. Everything else is called on the event loop only; the store's calls block
and are made off it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from cloister.errors import AlreadyExists, EvidenceRejected, InvalidRequest, NotFound, NotReady, Overloaded, Unavailable
from cloister.kit.revocation import Kind, Name, Names
from cloister.rpc.files import read_private, replace_private

MAX_REVOCATIONS: Final = 10_000
MAX_REASON: Final = 256


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


class RevocationStore(Protocol):
    """Where revocations are kept. Both calls block."""

    def load(self) -> list[Revocation]:
        """Everything that was saved last; raises NotReady when that cannot be told."""

    def save(self, revocations: Sequence[Revocation]) -> None:
        """Keep exactly these, or what was kept before; raises Unavailable."""


class Revocations:
    """The revocations in force.

    Args:
        store: Keeps them.
        now: Aware UTC.

    Attributes:
        version: Goes up by one with every change.
    """

    def __init__(self, store: RevocationStore, *, now: Callable[[], datetime]) -> None:
        self.version = 1
        self._store = store
        self._now = now
        self._held: Mapping[Name, Revocation] = {each.name: each for each in store.load()}
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def in_force(self) -> list[Revocation]:
        """All of them, oldest first."""
        now = self._now()
        return [each for each in self._held.values() if each.ends_at is None or each.ends_at > now]

    @property
    def names(self) -> frozenset[Name]:
        """What they name."""
        return frozenset(each.name for each in self.in_force)

    def check(self, names: Names) -> None:
        """Raise if a worker of these names must not be believed.

        Raises:
            EvidenceRejected: At step 7; `measurement.revoked`, `signer.revoked`, `platform.revoked` or
                `instance.revoked`.
        """
        held, now = self._held, self._now()
        for name in names:
            found = held.get(name)
            if found is not None and (found.ends_at is None or found.ends_at > now):
                raise EvidenceRejected(f"its {name.kind.value} is revoked", step=7, reason=name.kind.refusal)

    async def add(self, *added: Revocation) -> None:
        """Bring revocations into force.

        Raises:
            Overloaded: There are too many.
            Unavailable: They cannot be kept; nothing has changed.
        """
        async with self._writing:
            await self._replace({**self._current(), **{each.name: each for each in added}})

    async def lift(self, name: Name) -> None:
        """Take one out of force.

        Raises:
            NotFound: It is not revoked.
            Unavailable: That cannot be kept; it stays revoked.
        """
        async with self._writing:
            self.held(name)
            await self._replace({held: each for held, each in self._current().items() if held != name})

    def check_new(self, name: Name) -> None:
        """Raise AlreadyExists if it is revoked for good already."""
        held = self._held.get(name)
        if held is not None and held.ends_at is None:
            raise AlreadyExists(f"this {name.kind.value} is revoked already")

    def held(self, name: Name) -> Revocation:
        """The revocation of this name; raises NotFound if it is not revoked."""
        found = self._current().get(name)
        if found is None:
            raise NotFound(f"this {name.kind.value} is not revoked")
        return found

    async def changed(self, version: int) -> None:
        """Wait until there is a later version than this; raises Unavailable when this service is going."""
        while self.version <= version and not self._closed:
            await self._changed.wait()
        if self._closed:
            raise Unavailable("the verifier is draining", reason="peer.draining")

    def tell_again(self) -> None:
        """Wake everyone who waits for changes: what they are told besides has changed."""
        self._adopt(self._held)

    def close(self) -> None:
        """Send everyone away who waits for changes."""
        self._closed = True
        self._changed.set()

    async def expiring(self, *, every_s: float = 1.0) -> None:
        """Notice, for as long as the service runs, that a revocation has ended by itself."""
        while True:
            await asyncio.sleep(every_s)
            current = self._current()
            if len(current) != len(self._held):
                self._adopt(current)

    def _current(self) -> dict[Name, Revocation]:
        return {each.name: each for each in self.in_force}

    async def _replace(self, wanted: Mapping[Name, Revocation]) -> None:
        if len(wanted) > MAX_REVOCATIONS:
            raise Overloaded(f"more than {MAX_REVOCATIONS} revocations are in force", reason="revocations.full")
        await asyncio.to_thread(self._store.save, list(wanted.values()))
        self._adopt(wanted)

    def _adopt(self, wanted: Mapping[Name, Revocation]) -> None:
        self._held = dict(wanted)
        self.version += 1
        before, self._changed = self._changed, asyncio.Event()
        before.set()


class RevocationFile:
    """Revocations in a JSON file that is replaced whole, and is nobody else's to write."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[Revocation]:
        """See `RevocationStore`; a file that is damaged, or not there where it was, stops the verifier."""
        if not self._path.exists():
            return []
        try:
            rows = json.loads(read_private(self._path))
            if not isinstance(rows, list):
                raise ValueError("no list")
            return [_read(row) for row in rows]
        except (ValueError, KeyError, TypeError, InvalidRequest) as error:
            raise NotReady(
                f"{self._path} cannot be read, so nothing says what is revoked; put its last copy back, or remove it "
                "and revoke anew what the record says was revoked",
                reason="revocations.lost",
            ) from error

    def save(self, revocations: Sequence[Revocation]) -> None:
        """See `RevocationStore`."""
        try:
            replace_private(self._path, json.dumps([_written(each) for each in revocations], indent=1).encode())
        except OSError as error:
            raise Unavailable("the revocation cannot be written", reason="state.unavailable") from error


def _written(revocation: Revocation) -> dict[str, str | None]:
    return {
        "kind": revocation.name.kind.value,
        "value": revocation.name.value,
        "reason": revocation.reason,
        "by": revocation.by,
        "revoked_at": revocation.revoked_at.isoformat(),
        "ends_at": revocation.ends_at.isoformat() if revocation.ends_at is not None else None,
    }


def _read(row: dict[str, Any]) -> Revocation:
    return Revocation(
        name=Name.read(Kind(row["kind"]), str(row["value"])),
        reason=str(row["reason"]),
        by=str(row["by"]),
        revoked_at=datetime.fromisoformat(row["revoked_at"]).astimezone(UTC),
        ends_at=datetime.fromisoformat(row["ends_at"]).astimezone(UTC) if row["ends_at"] is not None else None,
    )
