"""Which names may begin a queue."""

from __future__ import annotations

import pytest

from cloister.errors import NotFound
from cloister.gateway.directory import Directory
from cloister.gateway.fleet import Fleet
from cloister.gateway.jobs.job import QueueCounts
from cloister.gateway.jobs.known import KnownModels
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.limits import Limits, ModelLimits
from cloister.gateway.routing import Routing
from cloister.gateway.tenant_file import TenantEntry, TenantsFile
from fakes.run_jobs import now_ms

SEEN, ROUTED, NAMED, OWNED, QUEUED = "seen", "routed", "named", "owned", "queued"


class Serving(Fleet):
    """A fleet of which a test says what it serves."""

    serving_now: frozenset[str] = frozenset()

    def serves(self, name: str, version: str) -> bool:
        return name in self.serving_now


async def fleet() -> Serving:
    made = Serving("demo", lambda _endpoint, _name: None, limits=Limits(ModelLimits(queue=1)), wall_ms=now_ms)  # type: ignore[arg-type,return-value]
    made.current.set()
    made.dispatcher.route(Routing.parse(f"[models.{ROUTED}]\ndefault = 1\n".encode()))
    return made


async def test_whatever_somebody_trusted_has_spoken_of_may_have_a_queue() -> None:
    stores = StoreWatch.off()
    counts = QueueCounts(model_name=QUEUED, waiting=1, running=0, size_bytes=1, oldest_s=0, dead=0)
    stores.queues = {QUEUED: counts}
    directory = Directory("demo", TenantsFile(tenants={"ward": TenantEntry(models=(OWNED,))}))
    workers = await fleet()
    known = KnownModels(workers, stores, directory, [NAMED])
    for name in (ROUTED, NAMED, OWNED, QUEUED):
        known.check(name)
    for name in ("made-up", "", SEEN):
        with pytest.raises(NotFound):
            known.check(name)
    workers.serving_now = frozenset({SEEN})
    known.check(SEEN)
    workers.serving_now = frozenset()
    known.check(SEEN)  # it is remembered
