"""Gramine's attestation files without Gramine: the simulator's, served in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from cloister_simulator import attestation
from cloister_simulator.platform import Platform
from fakes.sim import simulated_platform

MakeQuote = Callable[[bytes], bytes]


def quote_over(platform: Platform | None = None) -> MakeQuote:
    """Quotes as the recipe of a platform has them."""
    return partial((platform or simulated_platform()).quote)


def is_served(folder: Path) -> bool:
    """Whether the files are all there."""
    kind = folder / attestation.TYPE
    return kind.exists() and kind.read_bytes() == b"dcap"


async def until_served(folder: Path, serving: asyncio.Task[None]) -> None:
    """Wait for the files, or for the end of who should have served them."""
    while not is_served(folder) and not serving.done():
        await asyncio.sleep(0)


def names(folder: Path) -> set[str]:
    """What lies in a folder."""
    return {each.name for each in folder.iterdir()}


@asynccontextmanager
async def attesting(folder: Path, quote: MakeQuote | None = None) -> AsyncIterator[Path]:
    """The folder, with somebody who serves it as long as the block lasts."""
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(attestation.serve(folder, quote or quote_over()))
        await until_served(folder, serving)
        try:
            yield folder
        finally:
            serving.cancel()
