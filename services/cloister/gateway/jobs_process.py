"""A process of the gateway that gives jobs to workers, and that nobody calls."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

from cloister.gateway.core import announced, founded, wall_ms
from cloister.gateway.jobs.metrics import JobMetrics
from cloister.gateway.jobs.runner import Runner
from cloister.gateway.settings import Settings
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.kit.shared_port import Place

RUNNING: Final = "cloister.jobs"
"""To the health service of such a process: whether jobs go on."""
_log = get_logger()


async def run_jobs(settings: Settings, lifecycle: Lifecycle, place: Place | None = None) -> None:
    """Be a process that gives jobs to workers, and that nobody calls, until told to stop."""
    async with founded(settings, lifecycle, place) as core, AsyncExitStack() as stack:
        settings = core.settings
        metrics = JobMetrics(core.metrics, core.stores)
        runner = Runner(
            core.stores,
            core.fleet.dispatcher,
            core.tenancy.directory,
            settings.jobs,
            metrics,
            max_call_s=settings.max_call_s,
            grace_s=settings.grace_s,
            wall_ms=wall_ms,
            stopping=lifecycle.stopping,
        )
        metrics.held = runner.held
        healths = await announced(core, lifecycle, stack, [])

        async def serving(well: bool) -> None:
            for health in healths:
                await health.set(RUNNING, well)

        _log.info("jobs.running", grace_s=settings.grace_s)
        await runner.run(serving)
