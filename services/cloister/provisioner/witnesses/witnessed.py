"""What a log's witnesses stand between: a decision, and the world that hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from cloister.kit.lifecycle import Lifecycle
from cloister.provisioner.witnesses.link import WitnessedLog


class Witnessed(Protocol):
    """What stands between a decision and the world."""

    def check(self) -> None:
        """Raise unless this process may write to the log now. For any thread.

        Raises:
            NotReady: Another writes (`writer.other`), the log is not what was countersigned (`state.forked`), or the
                witnesses have been silent for too long (`witness.behind`).
        """

    async def witnessed(self, sequence: int) -> None:
        """Wait until a line is countersigned.

        Raises:
            NotReady: As `check`; the line is on record, and no majority vouches for it.
        """

    async def heads(self) -> Sequence[str]:
        """The newest countersigned head of each witness that has one, as signed notes.

        Raises:
            Unavailable: No majority answers.
        """

    async def other(self) -> str | None:
        """Who else has the writer's lease, in words; None where this process may ask for it.

        Raises:
            Unavailable: No majority of the witnesses answers.
        """

    @property
    def overtaken(self) -> asyncio.Event:
        """Set once another process writes this log, or has done so since ours was opened: for good."""

    def countersigned(self) -> str:
        """The newest head that a majority countersigned since the start, with its signatures; empty for none."""

    @asynccontextmanager
    def running(self, log: WitnessedLog, lifecycle: Lifecycle) -> AsyncIterator[None]:
        """Show this log for as long as the block lasts."""


class Unwitnessed:
    """The settings name no verifier: nobody but the auditors remembers how far the log had come."""

    def __init__(self, overtaken: asyncio.Event) -> None:
        self.overtaken = overtaken

    def check(self) -> None:
        """Nobody objects."""

    async def witnessed(self, sequence: int) -> None:
        """Nobody is waited for."""

    async def heads(self) -> Sequence[str]:
        """Nobody has one."""
        return []

    async def other(self) -> str | None:
        """Nobody gives out leases."""
        return None

    def countersigned(self) -> str:
        """Nobody did."""
        return ""

    @asynccontextmanager
    async def running(self, log: WitnessedLog, lifecycle: Lifecycle) -> AsyncIterator[None]:
        """Nothing runs."""
        yield
