"""The log and its witnesses: heads go out, and what is released or changed waits for what they say (attacks F10, H07).

A round shows the newest head to every witness, at least each second, and at once where a change waits for it; it also
renews this writer's lease. Keys are released only while a majority of witnesses holds our lease to be live, by our own
clock and counted from before we asked: so whoever runs on a copy of this state, or on a state that was put back, falls
silent. A change is answered when a majority has countersigned its line.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from cloister.errors import CloisterError, LogBroken, NotReady, Unavailable
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.provisioner.witnesses.link import CALL_S, Lease, WitnessedLog, WitnessLink
from cloister.provisioner.witnesses.witnessed import Unwitnessed, Witnessed
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name
from cloister.tlog.cosignature import WitnessKey
from cloister.tlog.note import SignedNote

RENEW_S: Final = 1.0
# How long a change waits to be countersigned before its caller hears that it was not.
CHANGE_S: Final = 8.0
_WRITER_BYTES: Final = 16
_NAME: Final = 128  # characters
# Another writes; or did, so that what was countersigned is not in the log that we have read.
_OVERTAKEN: Final = frozenset({"writer.other", "state.forked"})
_log = get_logger()


class Witnessing:
    """The witnesses of one log, and the lease of its one writer.

    Args:
        links: To each of them.
        metrics: Hears of refusals, and shows the lag.
        monotonic: A clock that never goes back, in seconds.
        overtaken: See `Witnessed.overtaken`.
    """

    def __init__(
        self,
        links: Sequence[WitnessLink],
        *,
        metrics: Metrics,
        monotonic: Callable[[], float],
        overtaken: asyncio.Event | None = None,
    ) -> None:
        self._links = links
        self._majority = len(links) // 2 + 1
        self._metrics = metrics
        self._monotonic = monotonic
        self._note: SignedNote | None = None
        self._wake = asyncio.Event()
        self._shown = asyncio.Condition()
        self._said: tuple[str, ...] = ()
        self.overtaken = overtaken or asyncio.Event()
        # Of its own: others that wait for a slow vault, or list a long record, must not have the lease run out.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="witnessing")

    def check(self) -> None:
        """See `Witnessed`."""
        now_s = self._monotonic()
        if self._distinct(each for each in self._links if each.lease_ends_s > now_s) < self._majority:
            raise self._why()

    async def witnessed(self, sequence: int) -> None:
        """See `Witnessed`."""
        self._wake.set()
        try:
            async with asyncio.timeout(CHANGE_S), self._shown:
                await self._shown.wait_for(lambda: self._size() >= sequence)
        except TimeoutError:
            why = self._why()
            raise NotReady(
                f"line {sequence} is on record and not countersigned: {why}; look before doing it again",
                reason=why.reason,
            ) from None

    async def heads(self) -> Sequence[str]:
        """See `Witnessed`."""
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(_newest(each)) for each in self._links]
        found = [task.result() for task in asked]
        heard = [link for link, head in zip(self._links, found, strict=True) if head is not None]
        if self._distinct(heard) < self._majority:
            raise _unheard()
        return [head for head in found if head]

    async def other(self) -> str | None:
        """See `Witnessed`."""
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(_lease(each)) for each in self._links]
        heard = [(link, task.result()) for link, task in zip(self._links, asked, strict=True)]
        free = [link for link, lease in heard if lease is not None and not lease.left_s]
        if self._distinct(free) >= self._majority:
            return None
        held = [lease for _, lease in heard if lease is not None and lease.left_s]
        if not held or self._distinct(link for link, lease in heard if lease is not None) < self._majority:
            raise _unheard()
        longest = max(held, key=lambda lease: lease.left_s)
        return longest.holder or "another provisioner"

    def countersigned(self) -> str:
        """See `Witnessed`."""
        return "" if self._note is None else str(self._note)

    @asynccontextmanager
    async def running(self, log: WitnessedLog, lifecycle: Lifecycle) -> AsyncIterator[None]:
        """See `Witnessed`. The block begins when every witness has answered once, or has not for a while.

        At its end the lease is given back, so the next writer need not wait for it to run out.
        """
        self._metrics.witness_lag.set_function(lambda: log.size() - self._size())
        await self._round(log)
        task = lifecycle.spawn(self._rounds(log), "log.witnessing")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            with suppress(CloisterError, TimeoutError):
                async with asyncio.timeout(CALL_S):
                    await self._round(log, leaving=True)
            self._thread.shutdown(wait=False)

    async def _rounds(self, log: WitnessedLog) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEW_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._round(log)
            except Unavailable as error:  # our own disk does not answer, as whoever writes hears too
                _log.error("log.unreadable", error=error)
                await asyncio.sleep(RENEW_S)

    async def _round(self, log: WitnessedLog, *, leaving: bool = False) -> None:
        """Show the newest head to every witness."""
        checkpoint = await asyncio.get_running_loop().run_in_executor(self._thread, log.checkpoint)
        note, thread = SignedNote.parse(checkpoint), self._thread
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.show(log, note, thread=thread, leaving=leaving)) for each in self._links]
        cosignatures = [found for task in tasks if (found := task.result()) is not None]
        self._tell()
        if self._distinct(each for each in self._links if each.refusal is None) >= self._majority:
            self._note = note.with_signatures(cosignatures)
        async with self._shown:
            self._shown.notify_all()
        lost = (each for each in self._links if getattr(each.refusal, "reason", "") in _OVERTAKEN)
        if self._distinct(lost) > len(self._links) - self._majority:
            self.overtaken.set()
        if any(each.refusal is not None for each in self._links) and not leaving:
            await asyncio.sleep(RENEW_S / 4)  # a change that waits must not make us ask without a pause

    def _size(self) -> int:
        """How many lines a majority has countersigned."""
        sizes: dict[WitnessKey, int] = {}
        for link in self._links:
            if link.witness is not None:
                sizes[link.witness] = max(link.countersigned, sizes.get(link.witness, 0))
        found = sorted(sizes.values(), reverse=True)
        return found[self._majority - 1] if len(found) >= self._majority else 0

    def _distinct(self, links: Iterable[WitnessLink]) -> int:
        """How many witnesses these are: one that has two addresses is one."""
        return len({each.witness for each in links if each.witness is not None})

    def _why(self) -> NotReady:
        refusals = [(each.refusal, each.address) for each in self._links]
        for refusal, address in refusals:
            if isinstance(refusal, LogBroken):
                return NotReady(f"the witness {address} says: {refusal}", reason="state.forked")
        for refusal, address in refusals:
            if isinstance(refusal, NotReady) and refusal.reason != "witness.moved":
                return NotReady(f"the witness {address} says: {refusal}", reason=refusal.reason)
        return NotReady(
            "the witnesses of the log have been silent for too long: is the verifier up?", reason="witness.behind"
        )

    def _tell(self) -> None:
        """Log and count what has changed since the round before."""
        said = tuple(getattr(each.refusal, "reason", "") or str(each.refusal or "") for each in self._links)
        for link, reason, before in zip(self._links, said, self._said or [""] * len(said), strict=True):
            if link.refusal is not None:
                self._metrics.witness_refused(reason)
            if reason != before:
                _say(link)
        self._said = said


@asynccontextmanager
async def witnessing(
    addresses: Sequence[str],
    identity: TlsIdentity,
    metrics: Metrics,
    *,
    cluster: str,
    listen: str,
    overtaken: asyncio.Event | None = None,
) -> AsyncIterator[Witnessed]:
    """Connections to the witnesses at these addresses; no connection is made before the first call.

    Args:
        addresses: host:port of each; empty where the settings name none.
        identity: As whom they are asked.
        metrics: Hears of refusals.
        cluster: The mesh that they are of.
        listen: host:port of this process: what it is called by, among those that write.
        overtaken: See `Witnessed.overtaken`.
    """
    overtaken = overtaken or asyncio.Event()
    if not addresses:
        _log.warning(
            "log.unwitnessed", meaning="nobody but auditors would notice a record that was put back or cut off"
        )
        yield Unwitnessed(overtaken)
        return
    writer, name = secrets.token_bytes(_WRITER_BYTES), server_name(cluster, "verifier")
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(Peer(each, identity, name)) for each in addresses]
        called = f"{listen} on {socket.gethostname()}"[:_NAME]
        links = [WitnessLink(each, writer, name=called, monotonic=time.monotonic) for each in peers]
        yield Witnessing(links, metrics=metrics, monotonic=time.monotonic, overtaken=overtaken)


async def _newest(link: WitnessLink) -> str | None:
    """A witness's newest head, empty for none; None where it does not answer."""
    try:
        return await link.newest()
    except (CloisterError, TimeoutError) as error:
        _log.warning("witness.unheard", witness=link.address, error=error)
        return None


async def _lease(link: WitnessLink) -> Lease | None:
    """The writer's lease at a witness; None where it does not answer."""
    try:
        return await link.lease()
    except (CloisterError, TimeoutError):
        return None


def _unheard() -> Unavailable:
    return Unavailable("no majority of the witnesses of the log answers", reason="witness.behind")


def _say(link: WitnessLink) -> None:
    if link.refusal is None:
        _log.info("witness.countersigns", witness=link.address, lines=link.countersigned)
    elif isinstance(link.refusal, LogBroken):
        _log.error("log.refused", witness=link.address, error=link.refusal)
    else:
        _log.warning("witness.refused", witness=link.address, error=link.refusal)
