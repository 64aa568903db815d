"""What a batch needs of a client's jobs. `Client.jobs` has it, and so has the gateway of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Unpack

from cloister.cli.batch.spans import Failure
from cloister.client import Answer, JobOptions
from cloister.contract import ModelContract
from cloister.oip.contents import Array

UNKNOWN: Final = "job.unknown"
"""Reason for a job that the gateway does not have."""
GONE: Final = frozenset({"answer.lost", "answer.expired"})
"""Reasons for a job that was answered, and whose answer is there no more."""


LIFE_S: Final = 86_400
"""How long a job waits, unless somebody says otherwise."""


class Ticket(Protocol):
    """What opens a job's answer."""

    @property
    def job_id(self) -> bytes:
        """16 bytes."""
        ...

    def to_bytes(self, *, with_request: bool = True) -> bytes:
        """Secret: for a file that nobody else may read. Without the request there will be no receipt."""
        ...


class Prepared(Protocol):
    """A job that is sealed and not yet sent."""

    @property
    def ticket(self) -> Ticket:
        """Of it."""
        ...


class Sent(Protocol):
    """What became of sending a job: kept under `job_id`, an earlier one's where `existed`; or refused with `error`."""

    @property
    def job_id(self) -> bytes:
        """16 bytes."""
        ...

    @property
    def existed(self) -> bool:
        """Whether something was submitted under its key before."""
        ...

    @property
    def error(self) -> Failure | None:
        """Why it is not kept; None where it is."""
        ...


class Jobs(Protocol):
    """Jobs at a gateway. Each call raises what concerns all of its jobs: nobody to be reached, or believed."""

    async def prepare(
        self, model: str, many: Sequence[dict[str, Array]], *, keys: Sequence[str], **options: Unpack[JobOptions]
    ) -> Sequence[Prepared]:
        """Seal jobs, and send nothing."""
        ...

    async def send(self, prepared: Sequence[Any], *, timeout_s: float) -> Sequence[Sent]:
        """Submit them; what became of each."""
        ...

    def watch(self, tickets: Sequence[Any], *, timeout_s: float) -> AsyncIterator[tuple[Ticket, Answer | Failure]]:
        """What each ends with, as it ends; NotFound (`job.unknown`) for those that the gateway does not have."""
        ...

    async def forget(self, tickets: Sequence[Any], *, timeout_s: float) -> None:
        """Drop what jobs have ended with."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How jobs are asked.

    Attributes:
        model: Name.
        contract: What it takes and gives.
        ticket_of: Reads a ticket that the journal kept.
        options: Of `Jobs.prepare`, beside `timeout_s`.
        in_flight: Jobs under way at once, about.
        timeout_s: How long the gateway may be away, or refuse, before the command gives up for now.
        receipts: Folder for the receipt of each answer; None to keep none.
    """

    model: str
    contract: ModelContract
    ticket_of: Callable[[bytes], Ticket]
    options: JobOptions = field(default_factory=JobOptions)
    in_flight: int = 128
    timeout_s: float = 120.0
    receipts: Path | None = None

    @property
    def life_s(self) -> float:
        """Of a job."""
        return float(self.options.get("life_s", LIFE_S))
