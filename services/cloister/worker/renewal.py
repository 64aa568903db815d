"""The key of what is served, again and again until its lease has ended: how a lease is renewed (attacks F13, J13)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from cloister.errors import CloisterError, EvidenceRejected, KeyRefused
from cloister.kit.log import get_logger
from cloister.rpc.status import reason_of
from cloister.worker.backoff import Backoff
from cloister.worker.release import Release
from cloister.worker.served import ServedModel
from cloister.worker.settings import WantedModel

_log = get_logger()


class Releases(Protocol):
    """Who gives out model keys."""

    async def release(self, wanted: WantedModel) -> Release:
        """Get the key of a model, or the same key for longer; see `KeyRelease.release`."""


class Renewal:
    """Renews leases.

    Args:
        releases: Gives out keys.
        counter_s: The worker's counter.
        backoff: Pauses after failures; no longer than the lease goes.
        refused: Hears why a renewal was refused.
    """

    def __init__(
        self,
        releases: Releases,
        counter_s: Callable[[], float],
        backoff: Backoff,
        refused: Callable[[KeyRefused | EvidenceRejected], None],
    ) -> None:
        self._releases = releases
        self._counter_s = counter_s
        self._backoff = backoff
        self._refused = refused

    async def of(self, model: ServedModel, wanted: WantedModel) -> Release | None:
        """The key of `wanted` while the lease of `model` goes, or None when `model` must go."""
        while (left_s := model.ends_at_s - self._counter_s()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    release = await self._releases.release(wanted)
            except (KeyRefused, EvidenceRejected) as error:
                self._refused(error)
                return None
            except (CloisterError, TimeoutError) as error:
                _log.warning("lease.not_renewed", model=model.name, reason=reason_of(error), error=error)
                await self._backoff.pause(max(0.0, model.ends_at_s - self._counter_s()))
            else:
                self._backoff.reset()
                return release
        _log.warning("lease.ended", model=model.name, version=model.version)
        return None
