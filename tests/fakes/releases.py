"""Key releases for a keeper: given, refused or failing, as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cloister.api.v1.model_pb2 import SignedManifest
from cloister.errors import KeyRefused
from cloister.seal.grant import ModelGrant
from cloister.seal.keys import ModelKey, Secret
from cloister.seal.manifest import ModelManifest
from cloister.worker.job_epochs import HeldEpoch, JobEpochs
from cloister.worker.release import Release
from cloister.worker.settings import WantedModel


@dataclass
class FakeReleases:
    """Releases the key of one model.

    Attributes:
        counter_s: The worker's counter.
        version: Which version is the newest.
        min_version: Lower ones are refused.
        lease_s: Life of each lease.
        error: Raised instead.
        epochs: What comes with each release, newest first.
        asked_for: Which versions somebody asked for, 0 for the newest.
        asked: How often somebody asked; `came` is notified each time.
    """

    counter_s: Callable[[], float]
    version: int = 2
    min_version: int = 1
    lease_s: float = 3600.0
    allow_plain: bool = False
    error: Exception | None = None
    epochs: tuple[HeldEpoch, ...] = ()
    asked: int = 0
    asked_for: list[int] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def release(self, wanted: WantedModel) -> Release:
        async with self.came:
            self.asked += 1
            self.asked_for.append(wanted.version)
            self.came.notify_all()
        if self.error is not None:
            raise self.error
        version = wanted.version or self.version
        if version < self.min_version:
            raise KeyRefused("the version is below the lowest that may be served")
        digest = bytes([version]) * 32
        grant = ModelGrant(
            model_key=ModelKey(Secret.random()),
            model_name=wanted.name,
            model_version=version,
            model_digest=digest,
            allow_plain=self.allow_plain,
            lease_s=1,
            policy_digest=bytes(32),
        )
        manifest = ModelManifest(
            name=wanted.name,
            version=version,
            digest=digest,
            size_bytes=1,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            files=(("model.xml", 1),),
        )
        ends_at_s = self.counter_s() + self.lease_s
        return Release(
            f"lease-{self.asked}", grant, manifest, SignedManifest(), ends_at_s, self.lease_s, JobEpochs(self.epochs)
        )

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(10), self.came:
            await self.came.wait_for(lambda: self.asked >= times)
