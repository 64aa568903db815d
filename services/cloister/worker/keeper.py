"""Keeps one wanted model served: key, file, engine, lease; again and again until the worker stops (attacks F13).

Renewal is asked for at two thirds of the lease. A refusal, or the lease's end, drops model and key at once; whoever
asks for the model then hears that it is not here. Why the provisioner refused is in its record, not in our log. The
end is counted on the host's time: `clock` says what a host can make of that.

A newer version that we may have but cannot load does not take the served one down: that one is asked for by its own
version, and stays for as long as today's policy allows it. A host can keep us on it by withholding the newer file;
what ends that is the owner's minimum version. The newer one is tried again at each renewal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from cloister.errors import CloisterError, EvidenceRejected, KeyRefused, SealBroken, Unavailable
from cloister.kit.log import get_logger
from cloister.rpc.status import reason_of
from cloister.worker import models
from cloister.worker.backoff import Backoff, renewal_s
from cloister.worker.engine import Engine
from cloister.worker.release import Release
from cloister.worker.served import ServedModel, ServedModels
from cloister.worker.settings import WantedModel
from cloister.worker.tuning import Tunings

_log = get_logger()


class Releases(Protocol):
    """Who gives out model keys."""

    async def release(self, wanted: WantedModel) -> Release:
        """Get the key of a model, or the same key for longer; see `KeyRelease.release`."""


class Loader(NamedTuple):
    """Loads a model off the loop.

    Attributes:
        folder: Holds `<name>/<version>/model.sealed`.
        threads: For inference.
        parallel: At most this many evaluations at a time.
        most_rows: Of different requests in one evaluation.
        tunings: What was found out about models that were loaded before.
    """

    folder: Path
    threads: int
    parallel: int
    most_rows: int
    tunings: Tunings

    async def load(self, release: Release) -> Engine:
        """Open and compile; raises as `models.load`."""
        return await asyncio.to_thread(
            models.load,
            self.folder,
            release.manifest,
            release.grant.model_key,
            threads=self.threads,
            parallel=self.parallel,
            most_rows=self.most_rows,
            tunings=self.tunings,
        )


class ModelKeeper:
    """One wanted model.

    Args:
        wanted: Which.
        releases: Gives out its key.
        load: Makes the engine, from a release.
        served: Where it is served.
        counter_s: The worker's counter.
        backoff: Pauses after failures.
    """

    def __init__(
        self,
        wanted: WantedModel,
        *,
        releases: Releases,
        load: Callable[[Release], Awaitable[Engine]],
        served: ServedModels,
        counter_s: Callable[[], float],
        backoff: Backoff | None = None,
    ) -> None:
        self._wanted = wanted
        self._releases = releases
        self._load = load
        self._served = served
        self._counter_s = counter_s
        self._backoff = backoff or Backoff()

    async def keep(self) -> None:
        """Serve the model whenever we may, for as long as the worker runs."""
        while True:
            try:
                model, life_s = await self._begin()
            except (CloisterError, TimeoutError) as error:
                self._log_failure(error)
                await self._backoff.pause()
                continue
            self._backoff.reset()
            await self._hold(model, life_s)

    async def _begin(self) -> tuple[ServedModel, float]:
        release = await self._releases.release(self._wanted)
        engine = await self._load(release)
        model = _served_model(release, engine)
        if model.ends_at_s <= self._counter_s():
            await engine.close()
            raise Unavailable("the lease ended while the model was loaded", reason="lease.ended")
        self._served.put(model)
        _log.info("model.served", model=model.name, version=model.version, digest=model.digest.hex())
        return model, release.life_s

    async def _hold(self, model: ServedModel, life_s: float) -> None:
        """Renew the lease for as long as it goes; when this returns, the model is gone."""
        try:
            while True:
                # Counted from when the lease began, not from when a long load was done.
                wait_s = max(0.0, model.ends_at_s - self._counter_s() - life_s + renewal_s(life_s))
                if await _fails_within(model.engine, wait_s):
                    _log.error("engine.failed", model=model.name, version=model.version)
                    break
                carried_on = await self._carried_on(model)
                if carried_on is None:
                    return
                before, (model, life_s) = model, carried_on
                if model.engine is not before.engine:
                    await before.engine.close()
        except (CloisterError, TimeoutError) as error:
            self._log_failure(error)
        finally:
            self._served.drop(model)
            await model.engine.close()
        await self._backoff.pause()  # whoever can make it fail shall not keep us loading

    async def _renewal(self, model: ServedModel, wanted: WantedModel) -> Release | None:
        """The key of `wanted` while the lease of `model` goes, or None when `model` must go."""
        while (left_s := model.ends_at_s - self._counter_s()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    release = await self._releases.release(wanted)
            except (KeyRefused, EvidenceRejected) as error:
                self._log_failure(error)
                return None
            except (CloisterError, TimeoutError) as error:
                _log.warning("lease.not_renewed", model=model.name, reason=reason_of(error), error=error)
                await self._backoff.pause(max(0.0, model.ends_at_s - self._counter_s()))
            else:
                self._backoff.reset()
                return release
        _log.warning("lease.ended", model=model.name, version=model.version)
        return None

    async def _carried_on(self, model: ServedModel) -> tuple[ServedModel, float] | None:
        """The model for longer, or the newer one that we may have now, and its lease's life; None when it must go."""
        release = await self._renewal(model, self._wanted)
        if release is None:
            return None
        if release.manifest.digest == model.digest:
            return self._renewed(model, release)
        try:
            engine = await self._load(release)
        except CloisterError as error:
            if release.manifest.version <= int(model.version):
                raise
            version = str(release.manifest.version)
            _log.warning("model.refused", model=model.name, version=version, reason=reason_of(error), error=error)
            return await self._kept(model)
        newer = _served_model(release, engine)
        self._served.put(newer)
        self._served.drop(model)
        _log.info("model.replaced", model=newer.name, version=newer.version, before=model.version)
        return newer, release.life_s

    async def _kept(self, model: ServedModel) -> tuple[ServedModel, float] | None:
        """As `_carried_on`, for this version and no newer one."""
        release = await self._renewal(model, self._wanted._replace(version=int(model.version)))
        if release is None:
            return None
        if release.manifest.digest != model.digest:
            raise SealBroken
        return self._renewed(model, release)

    def _renewed(self, model: ServedModel, release: Release) -> tuple[ServedModel, float]:
        renewed = _served_model(release, model.engine)
        self._served.put(renewed)
        return renewed, release.life_s

    def _log_failure(self, error: BaseException) -> None:
        if isinstance(error, KeyRefused | EvidenceRejected):
            _log.warning("key.refused", model=self._wanted.name)
        else:
            _log.warning("model.not_served", model=self._wanted.name, reason=reason_of(error), error=error)


async def _fails_within(engine: Engine, wait_s: float) -> bool:
    try:
        async with asyncio.timeout(wait_s):
            await engine.failed.wait()
    except TimeoutError:
        return False
    return True


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
        stated={f"preprocessing.{name}": steps for name, steps in release.manifest.preprocessing},
    )
