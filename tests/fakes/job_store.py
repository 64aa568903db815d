"""A store of jobs in memory, which behaves as the one on Redis does towards those who use it, and can be away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from cloister.errors import AlreadyExists, CloisterError, Overloaded, Unavailable
from cloister.gateway.jobs.job import (
    Accepted,
    Claimed,
    Ending,
    Job,
    Priority,
    QueueCounts,
    Record,
    State,
    expired_job,
    full_results,
)
from cloister.gateway.jobs.store import Bounds

_ORDER = (Priority.HIGH, Priority.NORMAL, Priority.LOW)


@dataclass
class _Kept:
    job: Job
    state: State = State.QUEUED
    attempts: int = 0
    holder: str = ""
    held_at_s: float = 0.0
    not_before_s: float = 0.0
    record: Record | None = None


@dataclass
class Shelf:
    """What several stores have in common, as gateways have a Redis.

    Attributes:
        jobs: By model and id, in the order of their coming.
        turns: Tenants that have had jobs, the one that was served last at the end.
        feed: Ids of ended jobs, by model.
        feed_begins: How many of each feed's first are gone.
        away: Whether nobody reaches it.
        lost_replies: How many claims take jobs and say nothing of it, as when the store ends under the answer.
        spoilt: Ids of jobs that cannot be settled.
        calls: How often each step was asked for.
    """

    jobs: dict[str, dict[bytes, _Kept]] = field(default_factory=dict)
    turns: list[str] = field(default_factory=list)
    feed: dict[str, list[bytes]] = field(default_factory=dict)
    feed_begins: dict[str, int] = field(default_factory=dict)
    away: bool = False
    lost_replies: int = 0
    spoilt: set[bytes] = field(default_factory=set)
    calls: dict[str, int] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryJobStore:
    """One process's store; see `JobStore`."""

    def __init__(self, shelf: Shelf, now_ms: Callable[[], int], consumer: str = "one") -> None:
        self.shelf = shelf
        self._now_ms = now_ms
        self._consumer = consumer

    async def submit(self, jobs: Sequence[Job], bounds: Bounds) -> list[Accepted | CloisterError]:
        self._asked("submit")
        return [self._submit(job, bounds) for job in jobs]

    def _submit(self, job: Job, bounds: Bounds) -> Accepted | CloisterError:
        kept = self._of(job.model_name)
        known = kept.get(job.job_id)
        if known is not None:
            same = (known.job.tenant, known.job.request) == (job.tenant, job.request)
            return Accepted(job.job_id, existed=True) if same else AlreadyExists("taken", reason="job.other")
        for each in kept.values():
            if job.key and (each.job.tenant, each.job.key) == (job.tenant, job.key):
                return Accepted(each.job.job_id, existed=True)
        waiting = [each.job for each in kept.values() if not each.state.ended]
        own = [each for each in waiting if each.tenant == job.tenant]
        if len(own) >= bounds.tenant_jobs:
            return Overloaded("you have too many jobs", reason="tenant.jobs_full")
        if len(waiting) >= bounds.jobs or sum(len(each.request) for each in waiting) >= bounds.size_bytes:
            return Overloaded("too many jobs", reason="jobs.full")
        if self._ended_bytes(job.model_name, job.tenant) >= bounds.tenant_kept_bytes:
            return full_results()
        kept[job.job_id] = _Kept(job)
        if job.tenant not in self.shelf.turns:
            self.shelf.turns.append(job.tenant)
        self._change()
        return Accepted(job.job_id)

    async def recover(self, model_name: str, held: Sequence[Claimed] = ()) -> int:
        self._asked("recover")
        kept = {each.job.job_id for each in held}
        jobs = self._of(model_name).values()
        mine = [each for each in jobs if each.holder == self._consumer and each.job.job_id not in kept]
        for each in mine:
            each.holder = ""
        return len(mine)

    def _ended_bytes(self, model_name: str, tenant: str) -> int:
        ended = [each.record for each in self._of(model_name).values() if each.record and each.job.tenant == tenant]
        return sum(1024 + len(record.response) for record in ended)

    async def claim(self, model_name: str, most: int, block_ms: int, *, kept_bytes: int = 0) -> list[Claimed]:
        self._asked("claim")
        found = self._claim(model_name, most, kept_bytes)
        if not found and block_ms:
            self.shelf.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(block_ms / 1000, self._due_in_s(model_name))):
                    await self.shelf.changed.wait()
            self._asked("claim")
            found = self._claim(model_name, most, kept_bytes)
        return found

    def _due_in_s(self, model_name: str) -> float:
        now_s = asyncio.get_running_loop().time()
        waits_s = [each.not_before_s - now_s for each in self._of(model_name).values() if not each.state.ended]
        return min((wait_s for wait_s in waits_s if wait_s > 0), default=60.0)

    def _claim(self, model_name: str, most: int, kept_bytes: int) -> list[Claimed]:
        self._expire(model_name)
        taken: list[Claimed] = []
        while len(taken) < most and (free := self._free(model_name, kept_bytes)):
            share = max(1, (most - len(taken)) // len(free))
            for tenant, waiting in free.items():
                if len(taken) == most:
                    break
                taken += [self._taken(each) for each in waiting[: min(share, most - len(taken))]]
                self.shelf.turns.remove(tenant)
                self.shelf.turns.append(tenant)
        if taken and self.shelf.lost_replies:
            self.shelf.lost_replies -= 1
            raise Unavailable("the connection was lost")
        return taken

    def _free(self, model_name: str, kept_bytes: int) -> dict[str, list[_Kept]]:
        """What each tenant has to be taken, by priority; the one whose turn it is comes first."""
        now_s = asyncio.get_running_loop().time()
        found: dict[str, list[_Kept]] = {}
        for tenant in self.shelf.turns:
            if kept_bytes and self._ended_bytes(model_name, tenant) >= kept_bytes:
                continue
            waiting = [each for each in self._of(model_name).values() if each.job.tenant == tenant and not each.holder]
            free = [each for each in waiting if not each.state.ended and self._is_next(each)]
            free = [each for each in free if each.not_before_s <= now_s]
            if free:
                found[tenant] = sorted(free, key=lambda each: _ORDER.index(each.job.priority))
        return found

    def _is_next(self, kept: _Kept) -> bool:
        """Whether no job of the same ordered row is before it."""
        if not kept.job.order_key:
            return True
        row = (kept.job.tenant, kept.job.order_key)
        others = [each for each in self._of(kept.job.model_name).values() if not each.state.ended]
        return next(each for each in others if (each.job.tenant, each.job.order_key) == row) is kept

    def _taken(self, kept: _Kept) -> Claimed:
        kept.state, kept.holder = State.RUNNING, self._consumer
        kept.attempts += 1
        kept.held_at_s = asyncio.get_running_loop().time()
        return Claimed(replace(kept.job, key="", order_key=""), kept.job.job_id.hex(), kept.attempts)

    async def reclaim(self, model_name: str, most: int, idle_ms: int) -> list[Claimed]:
        self._asked("reclaim")
        before_s = asyncio.get_running_loop().time() - idle_ms / 1000
        left = [
            each
            for each in self._of(model_name).values()
            if each.holder not in ("", self._consumer) and each.held_at_s <= before_s and not each.state.ended
        ]
        return [self._taken(each) for each in left[:most]]

    async def renew(self, model_name: str, claimed: Sequence[Claimed]) -> None:
        self._asked("renew")
        for each in self._held(model_name, claimed):
            each.held_at_s = asyncio.get_running_loop().time()

    async def give_back(
        self, model_name: str, claimed: Sequence[Claimed], *, counted: bool = False, pause_s: float = 0.0
    ) -> None:
        self._asked("give_back")
        for each in self._held(model_name, claimed):
            each.holder = ""
            each.not_before_s = asyncio.get_running_loop().time() + pause_s
            each.attempts -= not counted
            each.state = State.RUNNING if counted else State.QUEUED
        self._change()

    async def settle(self, model_name: str, endings: Sequence[Ending]) -> None:
        self._asked("settle")
        if any(each.claimed.job.job_id in self.shelf.spoilt for each in endings):
            raise ValueError("spoilt")
        for ending in endings:
            kept = self._of(model_name).get(ending.claimed.job.job_id)
            if kept is not None and not kept.state.ended:
                state = State.ANSWERED if ending.error is None else State.DEAD
                self._end(kept, state, ending.response, ending.error)

    def _end(
        self, kept: _Kept, state: State, response: bytes = b"", error: CloisterError | TimeoutError | None = None
    ) -> None:
        kept.state, kept.holder = state, ""
        kept.record = Record(
            job_id=kept.job.job_id,
            state=state,
            attempts=kept.attempts,
            submitted_ms=kept.job.submitted_ms,
            ended_ms=self._now_ms(),
            kept_until_ms=self._now_ms() + kept.job.result_ttl_s * 1000,
            response=response,
            error=error,
        )
        self.shelf.feed.setdefault(kept.job.model_name, []).append(kept.job.job_id)
        self._change()

    async def read(
        self, model_name: str, tenant: str, job_ids: Sequence[bytes], *, responses: bool = True
    ) -> list[Record | None]:
        self._asked("read")
        return [self._record(model_name, tenant, job_id, responses=responses) for job_id in job_ids]

    def _record(self, model_name: str, tenant: str, job_id: bytes, *, responses: bool = True) -> Record | None:
        kept = self._of(model_name).get(job_id)
        if kept is None or kept.job.tenant != tenant:
            return None
        if kept.record is not None:
            return kept.record if responses else replace(kept.record, response=b"")
        return Record(job_id=job_id, state=kept.state, attempts=kept.attempts, submitted_ms=kept.job.submitted_ms)

    async def kept_bytes(self, model_name: str, tenant: str) -> int:
        self._asked("kept_bytes")
        return self._ended_bytes(model_name, tenant)

    async def cancel(self, model_name: str, tenant: str, job_ids: Sequence[bytes]) -> list[Record | None]:
        self._asked("cancel")
        for job_id in job_ids:
            kept = self._of(model_name).get(job_id)
            if kept is not None and kept.job.tenant == tenant and not kept.state.ended:
                self._end(kept, State.CANCELLED)
        return [self._record(model_name, tenant, job_id) for job_id in job_ids]

    async def forget(self, model_name: str, tenant: str, job_ids: Sequence[bytes]) -> None:
        self._asked("forget")
        for job_id in job_ids:
            kept = self._of(model_name).get(job_id)
            if kept is not None and kept.job.tenant == tenant and kept.state.ended:
                del self._of(model_name)[job_id]

    async def expire(self, model_name: str) -> int:
        self._asked("expire")
        return self._expire(model_name)

    def _expire(self, model_name: str) -> int:
        late = [
            each
            for each in self._of(model_name).values()
            if not each.state.ended and each.job.not_after_ms <= self._now_ms()
        ]
        for each in late:
            self._end(each, State.DEAD, error=expired_job())
        return len(late)

    async def ended_after(self, model_name: str, after: str, block_ms: int) -> tuple[str, list[bytes]]:
        self._asked("ended_after")
        begins, feed = self.shelf.feed_begins.get(model_name, 0), self.shelf.feed.get(model_name, [])
        if after == "$":
            return str(begins + len(feed)), []
        if int(after) < begins:
            raise Unavailable("missed", reason="jobs.feed_trimmed")
        if int(after) == begins + len(feed) and block_ms:
            self.shelf.changed.clear()
            try:
                async with asyncio.timeout(block_ms / 1000):
                    await self.shelf.changed.wait()
            except TimeoutError:
                pass
            self._asked("ended_after")
            return await self.ended_after(model_name, after, 0)
        return str(begins + len(feed)), feed[int(after) - begins :]

    def trim(self, model_name: str) -> None:
        """Lose all of a feed that there is."""
        feed = self.shelf.feed.pop(model_name, [])
        self.shelf.feed_begins[model_name] = self.shelf.feed_begins.get(model_name, 0) + len(feed)

    async def queues(self) -> list[QueueCounts]:
        self._asked("queues")
        return [self._counts(name, list(kept.values())) for name, kept in self.shelf.jobs.items() if kept]

    def _counts(self, name: str, kept: list[_Kept]) -> QueueCounts:
        waiting = [each for each in kept if not each.state.ended and not each.holder]
        oldest_ms = min((each.job.submitted_ms for each in waiting), default=self._now_ms())
        return QueueCounts(
            model_name=name,
            waiting=len(waiting),
            running=sum(bool(each.holder) for each in kept),
            size_bytes=sum(len(each.job.request) for each in kept if not each.state.ended),
            oldest_s=(self._now_ms() - oldest_ms) / 1000,
            dead=sum(each.state is State.DEAD for each in kept),
        )

    async def dead_letters(self, model_name: str, after: str, most: int) -> tuple[str, list[tuple[str, Record]]]:
        self._asked("dead_letters")
        dead = [each for each in self._of(model_name).values() if each.state is State.DEAD]
        first = int(after or 0)
        page = [(each.job.tenant, each.record) for each in dead[first : first + most] if each.record is not None]
        return str(first + most) if first + most < len(dead) else "", page

    def _held(self, model_name: str, claimed: Sequence[Claimed]) -> list[_Kept]:
        kept = [self._of(model_name).get(each.job.job_id) for each in claimed]
        return [each for each in kept if each is not None and each.holder == self._consumer]

    def _of(self, model_name: str) -> dict[bytes, _Kept]:
        return self.shelf.jobs.setdefault(model_name, {})

    def _asked(self, step: str) -> None:
        self.shelf.calls[step] = self.shelf.calls.get(step, 0) + 1
        if self.shelf.away:
            raise Unavailable("the store cannot be reached", reason="state.unavailable")

    def _change(self) -> None:
        self.shelf.changed.set()
