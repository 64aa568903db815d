"""Keeps one wanted model served: key, file, engine, lease; again and again until the worker stops (attacks F13).

Renewal is asked for at two thirds of the lease, or when the provisioner says that something has changed. A refusal, a
withdrawal or the lease's end drops model and key at once; whoever asks for the model then hears that it is not here.
Why the provisioner refused is in its record, not in our log. The end is counted on the host's time: `clock` says what a
host can make of that.

A newer version that we may have but cannot load does not take the served one down: that one is asked for by its own
version, and stays for as long as today's policy allows it. A host can keep us on it by withholding the newer file;
what ends that is the owner's minimum version. The newer one is tried again at each renewal, and where its file was
missing as soon as that is there. One that does load is announced before the older is not, and the older answers what is
under way, and who has not heard yet, before it goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from cloister.errors import CloisterError, NotReady, SealBroken, Unavailable
from cloister.kit.log import get_logger
from cloister.worker.backoff import Backoff, renewal_s
from cloister.worker.engine import Engine
from cloister.worker.memory import MemoryBudget, Room, estimated_bytes
from cloister.worker.progress import Progress
from cloister.worker.release import Release
from cloister.worker.renewal import Releases, Renewal
from cloister.worker.sealed_source import MISSING
from cloister.worker.served import ServedModel, ServedModels
from cloister.worker.settings import WantedModel

LINGER_S: Final = 1.0
"""How long gateways have to hear that a model goes, before it is not answered any more."""
DRAIN_S: Final = 30.0
"""How long what is under way may take then."""
_log = get_logger()


class ModelKeeper:
    """One wanted model.

    Args:
        wanted: Which.
        releases: Gives out its key.
        load: Makes the engine, from a release, within a room of memory.
        served: Where it is served.
        counter_s: The worker's counter.
        memory: Of all models.
        sealed_bytes: Length of the sealed file of a wanted model as it lies on disk, 0 if there is none; blocks.
        backoff: Pauses after failures.
        linger_s: How long a model that goes still answers.

    Attributes:
        model: What is served now.
        progress: What becomes of it.
        awaited: The newer version that we may have and whose file is missing, if there is one.
    """

    def __init__(
        self,
        wanted: WantedModel,
        *,
        releases: Releases,
        load: Callable[[Release, Room], Awaitable[Engine]],
        served: ServedModels,
        counter_s: Callable[[], float],
        memory: MemoryBudget,
        sealed_bytes: Callable[[WantedModel], int],
        backoff: Backoff | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        self.model: ServedModel | None = None
        self.awaited: WantedModel | None = None
        self.progress = Progress(wanted, served)
        self._wanted = wanted
        self._releases = releases
        self._load = load
        self._served = served
        self._counter_s = counter_s
        self._memory = memory
        self._sealed_bytes = sealed_bytes
        self._backoff = backoff or Backoff()
        self._renewal = Renewal(releases, counter_s, self._backoff, self.progress.fail)
        self._linger_s = linger_s
        self._rooms: dict[Engine, Room] = {}
        self._renewing_at: asyncio.Timeout | None = None
        self._ending_at: asyncio.Timeout | None = None
        self._going: dict[str, asyncio.Timeout] = {}

    @property
    def lease_ids(self) -> frozenset[str]:
        """Of what is here: the model that is served, and older ones that go."""
        served = {self.model.lease_id} if self.model is not None else set()
        return frozenset(self._going.keys() | served)

    async def keep(self) -> None:
        """Serve the model whenever we may, for as long as the worker runs."""
        self.progress.begin()
        while True:
            try:
                life_s = await self._begin()
            except (CloisterError, TimeoutError) as error:
                self.progress.fail(error)
                await self._backoff.pause()
                continue
            self._backoff.reset()
            if await self._hold(life_s):
                await self._backoff.pause()  # whoever can make it fail shall not keep us loading

    def renew_now(self) -> None:
        """Ask for the key again at once: there may be a newer version."""
        _end_now(self._renewing_at)

    def end(self, lease_id: str) -> None:
        """Drop at once what is here under this lease: it was withdrawn."""
        if self.model is not None and self.model.lease_id == lease_id:
            _log.warning("lease.withdrawn", model=self.model.name, version=self.model.version)
            _end_now(self._ending_at)
        else:
            _end_now(self._going.get(lease_id))

    async def leave(self) -> None:
        """Have gateways send nothing new, and wait for what is under way; `keep` may be cancelled then."""
        if self.model is not None:
            await self._leave(self.model)

    async def _leave(self, model: ServedModel) -> None:
        self._served.retire(model)
        await asyncio.sleep(self._linger_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await model.engine.drain()

    async def _begin(self) -> float:
        """Have `model`; returns the life of its lease. Nobody but `model` names it: it must go when that goes."""
        size_bytes = await asyncio.to_thread(self._sealed_bytes, self._wanted)
        self._memory.check(str(self._wanted), estimated_bytes(size_bytes))
        asked_s = self._counter_s()
        release = await self._releases.release(self._wanted)
        release_ms = round((self._counter_s() - asked_s) * 1000, 1)
        engine = await self._loaded(release)
        model = _served_model(release, engine)
        if model.ends_at_s <= self._counter_s():
            await self._close(engine)
            raise Unavailable("the lease ended while the model was loaded", reason="lease.ended")
        self._served.put(model)
        named = {"model": model.name, "version": model.version, "digest": model.digest.hex()}
        _log.info("model.served", **named, release_ms=release_ms)
        self.model = model
        self.progress.succeed(model)
        return release.life_s

    async def _loaded(self, release: Release) -> Engine:
        room = self._memory.room(f"{release.manifest.name}@{release.manifest.version}")
        try:
            room.take(estimated_bytes(release.manifest.size_bytes))
            engine = await self._load(release, room)
        except BaseException:
            room.free()
            raise
        finally:
            release.grant.model_key.wipe()  # the model is open: nothing needs its key any more
        self._rooms[engine] = room
        return engine

    async def _close(self, engine: Engine) -> None:
        try:
            await engine.close()
        finally:  # also where nobody may wait for its last evaluation any more
            self._rooms.pop(engine).free()

    async def _hold(self, life_s: float) -> bool:
        """Renew the lease for as long as it goes; when this returns, the model is gone. Says whether to pause."""
        async with asyncio.TaskGroup() as group:
            going: list[asyncio.Task[None]] = []
            try:
                async with asyncio.timeout(None) as self._ending_at:
                    return await self._held(life_s, lambda old: going.append(group.create_task(self._replace(old))))
            except (CloisterError, TimeoutError) as error:
                withdrawn = self._ending_at is not None and self._ending_at.expired()
                self.progress.fail(_withdrawn() if withdrawn else error)
                return True
            finally:
                self._ending_at = None
                for task in going:
                    task.cancel()
                if (model := self.model) is not None:
                    self.model = None
                    self._served.drop(model)
                    await self._close(model.engine)

    async def _held(self, life_s: float, replaced: Callable[[ServedModel], None]) -> bool:
        while (model := self.model) is not None:
            # Counted from when the lease began, not from when a long load was done.
            wait_s = max(0.0, model.ends_at_s - self._counter_s() - life_s + renewal_s(life_s))
            if await self._fails_within(model.engine, wait_s):
                _log.error("engine.failed", model=model.name, version=model.version)
                return True
            carried_on = await self._carried_on(model)
            if carried_on is None:
                return False
            self.model, life_s = carried_on
            if self.model.engine is not model.engine:
                replaced(model)
        raise ValueError("there is a model while it is held")

    async def _fails_within(self, engine: Engine, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s) as self._renewing_at:
                await engine.failed.wait()
        except TimeoutError:
            return False
        finally:
            self._renewing_at = None
        return True

    async def _replace(self, model: ServedModel) -> None:
        """Let an older version go, once a newer one is served."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as self._going[model.lease_id]:
                    await self._leave(model)
        finally:
            self._going.pop(model.lease_id, None)
            self._served.drop(model)
            await self._close(model.engine)

    async def _carried_on(self, model: ServedModel) -> tuple[ServedModel, float] | None:
        """The model for longer, or the newer one that we may have now, and its lease's life; None when it must go."""
        self.awaited = None
        release = await self._renewal.of(model, self._wanted)
        if release is None:
            return None
        if release.manifest.digest == model.digest:
            return self._renewed(model, release)
        try:
            engine = await self._loaded(release)
        except CloisterError as error:
            if release.manifest.version <= int(model.version):
                raise
            self.progress.refuse(str(release.manifest.version), error)
            if error.reason == MISSING:
                self.awaited = self._wanted._replace(version=release.manifest.version)
            return await self._kept(model)
        newer = _served_model(release, engine)
        self._served.put(newer)
        self.progress.succeed(newer)
        _log.info("model.replaced", model=newer.name, version=newer.version, before=model.version)
        return newer, release.life_s

    async def _kept(self, model: ServedModel) -> tuple[ServedModel, float] | None:
        """As `_carried_on`, for this version and no newer one."""
        release = await self._renewal.of(model, self._wanted._replace(version=int(model.version)))
        if release is None:
            return None
        if release.manifest.digest != model.digest:
            raise SealBroken
        return self._renewed(model, release)

    def _renewed(self, model: ServedModel, release: Release) -> tuple[ServedModel, float]:
        release.grant.model_key.wipe()  # the same model, open already
        renewed = _served_model(release, model.engine)
        self._served.put(renewed)
        self.progress.succeed(renewed)
        return renewed, release.life_s


def _end_now(waiting: asyncio.Timeout | None) -> None:
    """End what waits within this timeout, unless it has ended."""
    if waiting is not None and not waiting.expired():
        waiting.reschedule(asyncio.get_running_loop().time())


def _withdrawn() -> NotReady:
    return NotReady("its owner, or an operator, has withdrawn it", reason="lease.withdrawn")


def _served_model(release: Release, engine: Engine) -> ServedModel:
    return ServedModel(
        name=release.manifest.name,
        version=str(release.manifest.version),
        digest=release.manifest.digest,
        policy_digest=release.grant.policy_digest,
        allow_plain=release.grant.allow_plain,
        manifest=release.signed,
        ends_at_s=release.ends_at_s,
        engine=engine,
        lease_id=release.lease_id,
        job_epochs=release.job_epochs,
        stated={f"preprocessing.{name}": steps for name, steps in release.manifest.preprocessing},
    )
