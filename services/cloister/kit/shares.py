"""What each peer has open, until gRPC is done with it: one that does not read its answers uses up its own share only.

A client may shut its flow-control window, ask, and never read. Its call is answered then, as far as a handler can see,
and yet stays open with the answer in memory; gRPC's asyncio server has no way to end it while the connection lives. So
calls are counted until the task that serves them is done, which is when the last byte has been taken or the connection
is gone, and a peer that holds too many is refused more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from cloister.errors import Overloaded


class _Held:
    __slots__ = ("calls", "unread_bytes")

    def __init__(self) -> None:
        self.calls = self.unread_bytes = 0


def itself(peer: str) -> str:
    """Every peer a party of its own."""
    return peer


class Shares:
    """Counts calls and answers by party: by peer, unless several peers are one.

    Args:
        most_calls: Of one peer, open at a time.
        most_unread_bytes: Of one peer's answers that have not left; it may exceed them by its last one.
        party: Who a peer belongs to, by its name.
    """

    def __init__(self, most_calls: int, most_unread_bytes: int, party: Callable[[str], str] = itself) -> None:
        self._most_calls = most_calls
        self._most_unread_bytes = most_unread_bytes
        self._party = party
        self._held: dict[str, _Held] = {}

    @property
    def open_calls(self) -> int:
        """Of all peers."""
        return sum(held.calls for held in self._held.values())

    def enter(self, peer: str) -> None:
        """Count the call that the running task serves, until that task is done.

        Raises:
            Overloaded: The peer has its share open already.
        """
        party = self._party(peer)
        held = self._held.get(party) or _Held()
        if held.calls >= self._most_calls:
            raise Overloaded("too many calls of this client are open", reason="calls.open")
        if held.unread_bytes >= self._most_unread_bytes:
            raise Overloaded("this client has too many answers that it does not read", reason="answers.unread")
        self._held[party] = held
        held.calls += 1
        when_done(partial(self._leave, party, held))

    def answered(self, peer: str, size_bytes: int) -> None:
        """Count an answer that the running task hands to gRPC, until that task is done."""
        held = self._held.get(self._party(peer))
        if held is None:  # it belongs to somebody else since it entered
            return
        held.unread_bytes += size_bytes
        when_done(partial(self._sent, held, size_bytes))

    def _leave(self, party: str, held: _Held, _task: asyncio.Task[Any]) -> None:
        held.calls -= 1
        if not held.calls:
            del self._held[party]

    def _sent(self, held: _Held, size_bytes: int, _task: asyncio.Task[Any]) -> None:
        held.unread_bytes -= size_bytes


def when_done(leave: Callable[[asyncio.Task[Any]], None]) -> None:
    """Call `leave` when the task that serves the running call is done, and so gRPC with the call."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call is answered in a task")
    task.add_done_callback(leave)
