"""The whole log, read once after a start, while the service runs.

A start believes the log's signed head, and rows by the index that is bound to it (`opening`). Lines decide nothing in
that, so a line that was changed or taken out on disk harms nobody's key; but it is what auditors will ask for. So all
lines are read, a page at a time, and must lead to the head. Where they do not, the service's log says so and names the
line: put that file back from a copy, whose lines have the same hashes.
"""

from __future__ import annotations

import asyncio
from typing import Final

from cloister.errors import LogBroken, Unavailable
from cloister.kit.log import get_logger
from cloister.provisioner.ledger.log import Log
from cloister.tlog.merkle import Frontier

PAGE_LINES: Final = 256
_PAUSE_S: Final = 0.005
_log = get_logger()


async def checked(log: Log) -> None:
    """Read all lines that there are now; what is wrong with them is an event of the service's log."""
    try:
        await check(log)
    except (LogBroken, Unavailable) as error:
        _log.error("log.damaged", reason=error.reason, error=error)


async def check(log: Log) -> None:
    """Read them.

    Raises:
        LogBroken: One is missing or altered, or they do not lead to the head (`line.altered`, `log.truncated`).
        Unavailable: They cannot be read.
    """
    head, tree = log.tree(), Frontier()
    while tree.size < head.size:
        await asyncio.to_thread(_add_page, log, tree, head.size)
        await asyncio.sleep(_PAUSE_S)
    if tree.root() != head.root():
        raise LogBroken("the lines of the log do not lead to its signed head", reason="line.altered")


def _add_page(log: Log, tree: Frontier, size: int) -> None:
    for sequence, leaf, nodes in log.leaves(tree.size, size, PAGE_LINES):
        if b"".join(tree.add(leaf)) != nodes:
            raise LogBroken(f"line {sequence} of the log is not as it was written", reason="line.altered")
