"""From a released key to an engine, off the loop and within the memory there is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from cloister.kit.log import get_logger
from cloister.worker import models
from cloister.worker.engine import Engine
from cloister.worker.memory import Room
from cloister.worker.release import Release
from cloister.worker.tuning import Tunings

_log = get_logger()


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

    async def load(self, release: Release, room: Room) -> Engine:
        """Open and compile; raises as `models.load`."""
        manifest = release.manifest
        engine = await asyncio.to_thread(
            models.load,
            self.folder,
            manifest,
            release.grant.model_key,
            threads=self.threads,
            parallel=self.parallel,
            most_rows=self.most_rows,
            tunings=self.tunings,
            room=room,
        )
        spent_ms = {f"{stage}_ms": round(seconds * 1000, 1) for stage, seconds in engine.spent_s.items()}
        _log.info("model.loaded", model=manifest.name, version=manifest.version, **spent_ms)
        return engine
