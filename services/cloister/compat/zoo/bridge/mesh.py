"""Asking a mesh for what lies in a stream: by jobs where it takes them, else at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final

from cloister.client import Answer, Client, JobState, JobTicket, PreparedJob
from cloister.client.job_preparing import LIFE_S
from cloister.client.tasks import task_group
from cloister.compat.zoo.bridge.settings import Target
from cloister.contract import ModelContract
from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest, NotReady, SealBroken
from cloister.oip.contents import Array

Outcome = Answer | CloisterError | TimeoutError
Ended = Callable[[str, Outcome], Awaitable[None]]
CALL_S: Final = 30.0
"""Deadline of a call; what it did not do is tried again."""
LOOK_S: Final = 60.0
"""How long one watch waits for the next end."""
OFF_S: Final = 60.0
"""How long a mesh that takes no jobs is not asked whether it does."""
_TOO_LONG: Final = ("request.too_long", "job.too_long")
"""Of a job that would outlive its key, or lasts longer than the gateway keeps one."""
_SHORT_S: Final = 60.0
_CONTRACT_FRESH_S: Final = 60.0
_AT_ONCE: Final = 16
_OFF: Final = ("jobs.off", "epoch.missing")
_FINAL: Final = (InvalidRequest, SealBroken)
"""What a request that is asked at once may end with; anything else is about the mesh and may pass."""


class JobsOff(Exception):
    """This mesh takes no jobs now, or none that we may seal."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what it is called in the mesh, and its inputs."""

    key: str
    arrays: Mapping[str, Array] = field(repr=False)


class MeshModel:
    """One model of a mesh, for one stream.

    Args:
        client: Connected.
        target: The model.
    """

    def __init__(self, client: Client, target: Target) -> None:
        self._client = client
        self._target = target
        self._contract: ModelContract | None = None
        self._contract_at_s = 0.0
        self._off_until_s = 0.0
        self._longest_s = LIFE_S

    @property
    def takes_jobs(self) -> bool:
        """Whether it is worth submitting one."""
        return time.monotonic() >= self._off_until_s

    async def contract(self, left_s: float = CALL_S) -> ModelContract:
        """What the model takes; asked anew once a minute."""
        if self._contract is None or time.monotonic() - self._contract_at_s > _CONTRACT_FRESH_S:
            self._contract = await self._client.contract(self._target.model, self._target.version, min(CALL_S, left_s))
            self._contract_at_s = time.monotonic()
        return self._contract

    async def prepare(self, asked: Sequence[Asked], left_s: float) -> list[PreparedJob | InvalidRequest]:
        """Seal jobs; one whose inputs are none is its error.

        Raises:
            JobsOff: They must be asked at once.
            CloisterError, TimeoutError: Something that may pass.
        """
        try:
            return list(await self._prepared(asked, left_s))
        except InvalidRequest as error:
            if len(asked) == 1:
                return [error]
            return [one for each in asked for one in await self.prepare([each], left_s)]

    async def _prepared(self, asked: Sequence[Asked], left_s: float) -> list[PreparedJob]:
        try:
            return await self._client.jobs.prepare(
                self._target.model,
                [each.arrays for each in asked],
                keys=[each.key for each in asked],
                version=self._target.version,
                life_s=min(max(left_s, 1.0), self._longest_s),
                timeout_s=min(CALL_S, left_s),
            )
        except InvalidRequest as error:
            if not self.shortened(error):
                raise
            return await self._prepared(asked, left_s)
        except (NotReady, EvidenceRejected) as error:
            if error.reason.startswith("epoch.") or error.reason in _OFF:
                raise self._off() from error
            raise

    async def send(self, prepared: Sequence[PreparedJob], left_s: float) -> list[bytes | CloisterError | TimeoutError]:
        """Submit jobs: of each the id of the job that is kept, or why it was not accepted; raises as `prepare`."""
        try:
            sent = await self._client.jobs.send(prepared, timeout_s=min(CALL_S, left_s))
        except NotReady as error:
            raise self._off_or(error) from error
        return [each.job_id if each.error is None else each.error for each in sent]

    async def watch(
        self, tickets: Sequence[JobTicket], left_s: float
    ) -> AsyncGenerator[tuple[JobTicket, Outcome], None]:
        """Yield what each job ends with; raises as `prepare`, also where nothing ended for a minute."""
        try:
            async with aclosing(self._client.jobs.watch(tickets, timeout_s=min(LOOK_S, left_s))) as ends:
                async for end in ends:
                    yield end
        except NotReady as error:
            raise self._off_or(error) from error

    async def unknown(self, tickets: Sequence[JobTicket], left_s: float) -> list[JobTicket]:
        """Those whose jobs the mesh does not have."""
        found = await self._client.jobs.state(tickets, timeout_s=min(CALL_S, left_s))
        return [ticket for ticket, job in zip(tickets, found, strict=True) if job.state is JobState.UNKNOWN]

    async def forget(self, tickets: Sequence[JobTicket]) -> None:
        """Have answers dropped that have been handed on; the mesh does it by itself, later."""
        with suppress(CloisterError, TimeoutError):
            await self._client.jobs.forget(tickets, timeout_s=CALL_S)

    async def ask(self, asked: Mapping[str, Asked], left_s: float, ended: Ended) -> None:
        """Ask at once, some at a time, and say what each ends with."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str, request: Asked) -> None:
            async with at_once:
                await ended(name, await self._answer(request, left_s))

        async with task_group() as group:
            for name, request in asked.items():
                group.create_task(one(name, request))

    async def _answer(self, asked: Asked, left_s: float) -> Outcome:
        model, version = self._target.model, self._target.version
        try:
            return await self._client.infer(model, asked.arrays, version=version, timeout_s=min(CALL_S, left_s))
        except (CloisterError, TimeoutError) as error:
            return error

    def shortened(self, error: Exception) -> bool:
        """Whether jobs were refused for their life alone, and are to be submitted with half of it from now on.

        What a request waits longer than a job may live, it waits as one job after the other.
        """
        too_long = isinstance(error, InvalidRequest) and error.reason in _TOO_LONG and self._longest_s > _SHORT_S
        if too_long:
            self._longest_s /= 2
        return too_long

    def _off_or(self, error: NotReady) -> Exception:
        return self._off() if error.reason in _OFF else error

    def _off(self) -> JobsOff:
        self._off_until_s = time.monotonic() + OFF_S
        return JobsOff()


def is_final(error: CloisterError | TimeoutError) -> bool:
    """Whether asking again is in vain, because the request is wrong, or the answer is not believed."""
    return isinstance(error, _FINAL)
