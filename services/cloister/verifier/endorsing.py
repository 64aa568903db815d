"""The verifier's collateral, wired: its file, its memory, and where there is a source, the loop that asks it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from cloister.appraisal.anchors import TrustAnchor
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.pcs import Source
from cloister.pcs.client import PcsClient
from cloister.verifier import collateral_alarms
from cloister.verifier.collateral import CollateralStore
from cloister.verifier.collateral_files import CollateralInFile, FetchedFile
from cloister.verifier.collateral_memory import CollateralMemory
from cloister.verifier.collateral_record import CollateralRecord
from cloister.verifier.collateral_refresh import Pace, Refresher
from cloister.verifier.settings import Settings

LOOK_S: Final = 60.0

Review = Callable[[str], Awaitable[object]]


def collateral_store(
    settings: Settings, anchor: TrustAnchor, memory: CollateralMemory, record: CollateralRecord, now: datetime
) -> CollateralStore:
    """The collateral in force at the start: the operator's file, and what was fetched before. Blocking.

    Args:
        settings: Name both.
        anchor: What all of it must lead back to.
        memory: How new the newest of each part was.
        record: Is told what comes into force, and what is refused, now and later.
        now: Aware UTC.

    Raises:
        NotReady: The file is missing, is not collateral, or is not signed as it must be.
        Unavailable: What was seen cannot be remembered.
    """
    signers, threshold = frozenset(settings.collateral_signers), settings.collateral_threshold
    watched = None
    if settings.collateral is not None:
        watched = CollateralInFile(settings.collateral, signers=signers, threshold=threshold)
    store = CollateralStore(anchor, memory, watched=watched)
    store.on_refused.append(record.refused)
    store.on_adopted.append(lambda families: record.adopted(families, store.held))
    if settings.collateral_source is not None:
        store.offer(_fetched(settings.state_dir).read(), now)
    store.look(now)
    return store


def keep_fresh(
    store: CollateralStore,
    settings: Settings,
    lifecycle: Lifecycle,
    metrics: Metrics,
    *,
    review: Review,
    now: Callable[[], datetime],
) -> None:
    """Watch the store's file and dates, and ask the source that the settings name, for as long as the service runs.

    Args:
        store: What is kept fresh.
        settings: Name the source.
        lifecycle: Runs the loops.
        metrics: Are told.
        review: Judges the members anew; called after other collateral has come into force, with the word for that.
        now: Aware UTC.

    Raises:
        NotReady: The source's CA file cannot be used.
    """
    # Appraisals, which bring both about, are in threads of their own.
    loop, adopted = asyncio.get_running_loop(), asyncio.Event()
    store.on_adopted.append(lambda _families: _soon(loop, adopted.set))
    lifecycle.spawn(_reviewing(adopted, review), "collateral.reviewing")
    lifecycle.spawn(_watching(store, metrics, now), "collateral.watching")
    source = settings.collateral_source
    if source is not None:
        refresher = _refresher(source, store, settings, metrics, now)
        store.on_unknown.append(lambda family: _soon(loop, partial(refresher.want, family)))
        lifecycle.spawn(refresher.refreshing(), "collateral.refreshing")


def _refresher(
    source: Source, store: CollateralStore, settings: Settings, metrics: Metrics, now: Callable[[], datetime]
) -> Refresher:
    return Refresher(
        PcsClient(source),
        store,
        _fetched(settings.state_dir),
        update=settings.collateral_update,
        pace=Pace(every_s=settings.collateral_refresh_s),
        metrics=metrics,
        now=now,
        monotonic=time.monotonic,
    )


def _soon(loop: asyncio.AbstractEventLoop, act: Callable[[], object]) -> None:
    loop.call_soon_threadsafe(act)


def _fetched(state_dir: Path) -> FetchedFile:
    return FetchedFile(state_dir / "collateral-fetched.json")


async def _reviewing(adopted: asyncio.Event, review: Review) -> None:
    """Once for all that came meanwhile."""
    while True:
        await adopted.wait()
        adopted.clear()
        await review("collateral")


async def _watching(store: CollateralStore, metrics: Metrics, now: Callable[[], datetime]) -> None:
    while True:
        await asyncio.to_thread(collateral_alarms.look, store, metrics, now())
        await asyncio.sleep(LOOK_S)
