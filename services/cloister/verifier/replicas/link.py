"""One replica's way to the others: a session with Redis, what it writes in order, and the stream that it follows.

A session begins with a hello and ends with the first thing that is not as it must be: an answer that did not come, a
Redis that is another process or was set back, silence. Then challenges are refused until the next one has begun, and
none from before is ever taken again; members stay. Writes go out one after the other, in batches, so their numbers are
in order; everything else runs beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cloister.errors import ChallengeExpired, CloisterError, NotReady, Overloaded, SealBroken, Unavailable
from cloister.kit.log import get_logger
from cloister.verifier.replicas import scripts
from cloister.verifier.replicas.batches import Batches, away
from cloister.verifier.replicas.entries import Entry, Kind
from cloister.verifier.replicas.journal import Journal
from cloister.verifier.replicas.runner import LOST, Call, Runner, Word
from cloister.verifier.replicas.sealing import RecordSeal

POLL_S: Final = 0.1
TICK_S: Final = 1.0
RETRY_S: Final = 0.5
TOLD: Final = frozenset({Kind.AGES, Kind.RULED, Kind.KNOWN})
_PAGE: Final = 512

_log = get_logger()


class Listener(Protocol):
    """Who hears what the others say."""

    async def load(self) -> None:
        """Read everything: a session begins, or something was missed."""

    async def changed(self, instances: list[str]) -> None:
        """Read these members anew."""

    async def told(self, kind: Kind, about: bytes) -> None:
        """Another says what it knows: an entry of one of the kinds in `TOLD`."""


@dataclass(slots=True)
class _Write:
    script: str
    kind: Kind
    about: bytes
    words: tuple[Word, ...]
    journal: Journal


class Link:
    """Sessions with one Redis. Called on the event loop only.

    Args:
        ttl_s: How long a challenge may be used.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(self, runner: Runner, seal: RecordSeal, *, ttl_s: float, monotonic: Callable[[], float]) -> None:
        self.ttl_s = ttl_s
        self._runner = runner
        self._seal = seal
        self._monotonic = monotonic
        self._journal: Journal | None = None
        self._run = ""
        self._read_to = ""
        self._set_back = False
        self._ticked_at = 0.0
        self._closed = False
        self._writes = Batches(self._send)
        self._calls = Batches(runner.run_each)

    @property
    def journal(self) -> Journal:
        """The session's; raises Unavailable when there is none, or it has not heard itself for too long."""
        if self._closed or self._journal is None or not self._journal.hears_itself:
            raise away()
        return self._journal

    async def call(self, script: str, *words: Word) -> Any:
        """Run a script that does not write to the stream; raises Unavailable, Overloaded or NotReady."""
        return await self._calls.ask((script, (self._run, self.journal.session.hex(), *words)))

    async def write(self, script: str, kind: Kind, about: bytes, *words: Word) -> tuple[int, Any]:
        """Run a script that writes one entry to the stream, after all that were asked for before.

        Returns:
            The number of the entry, and what the script answers.

        Raises:
            Unavailable: It failed, or nobody knows whether it did; the session is over.
            Overloaded: Too many wait.
        """
        number, answer = await self._writes.ask(_Write(script, kind, about, words, self.journal))
        return number, answer

    async def following(self, listener: Listener) -> None:
        """Keep a session and follow the stream, for as long as the service runs."""
        while not self._closed:
            try:
                if self._journal is None:
                    await self.begin(listener)
                if self._monotonic() - self._ticked_at >= TICK_S:
                    await self._tick()
                behind = await self._follow(listener)
                await asyncio.sleep(0 if behind else POLL_S)
            except (Unavailable, NotReady, Overloaded) as error:
                self._end(error)
                await asyncio.sleep(RETRY_S)

    async def begin(self, listener: Listener) -> None:
        """Begin a session.

        Raises:
            Unavailable: Redis does not answer.
            NotReady: What is there is not what it must be.
        """
        journal = Journal(ttl_s=self.ttl_s, monotonic=self._monotonic)
        kind = Kind.VOID if self._set_back else Kind.HELLO
        await self._runner.register()
        hello = Entry(journal.session, 1, kind).sealed(self._seal)
        run, read_to = await self._runner.run(scripts.HELLO, "", journal.session.hex(), hello)
        self._run, self._read_to = run.decode(), read_to.decode()
        self._journal, self._set_back, self._ticked_at = journal, False, self._monotonic()
        await listener.load()
        _log.info("session.begun", all_void=kind is Kind.VOID)

    async def writing(self) -> None:
        """Send what is to be written, for as long as the service runs."""
        await self._writes.running()

    async def calling(self) -> None:
        """Send everything else, for as long as the service runs."""
        await self._calls.running()

    def close(self) -> None:
        """Come to an end: nothing is sent any more, and all loops return."""
        self._closed = True
        self._journal = None
        self._writes.close()
        self._calls.close()

    async def _send(self, batch: Sequence[_Write]) -> Sequence[Any]:
        numbers: list[int] = []
        calls: list[Call] = []
        for each in batch:
            if each.journal is not self._journal:
                raise away()
            session, number = each.journal.session, each.journal.next_number()
            entry = Entry(session, number, each.kind, each.about).sealed(self._seal)
            nothing = Entry(session, number, Kind.TICK).sealed(self._seal)
            numbers.append(number)
            calls.append((each.script, (self._run, session.hex(), number, entry, nothing, *each.words)))
        try:
            answers = await self._runner.run_each(calls)
            for answer in answers:
                if isinstance(answer, CloisterError):
                    raise answer
        except (Unavailable, NotReady) as error:
            self._end(error)
            raise
        return list(zip(numbers, answers, strict=True))

    async def _tick(self) -> None:
        journal, self._ticked_at = self.journal, self._monotonic()
        await self.write(scripts.WRITE, Kind.TICK, b"")
        journal.tick(self._ticked_at)

    async def _follow(self, listener: Listener) -> bool:
        """Hear what came; says whether there is more."""
        journal = self.journal
        page = await self._runner.run(scripts.FOLLOW, self._run, journal.session.hex(), self._read_to, _PAGE)
        heard: list[Entry] = []
        whole = True
        for at, sealed in page:
            self._read_to = at.decode("ascii")
            try:
                entry = Entry.opened(self._seal, sealed)
                whole &= _taken_in(journal, entry)
                heard.append(entry)
            except (SealBroken, NotReady) as error:
                self._runner.refused(error.reason, at=self._read_to)
                whole = False
        if not whole:
            journal.void()
        if journal.must_write:
            await self._tick()
        await _pass_on(listener, heard, whole=whole, own=journal.session)
        return len(page) == _PAGE

    def _end(self, error: CloisterError) -> None:
        if self._journal is not None:
            _log.warning("session.lost", reason=error.reason)
        self._journal = None
        self._set_back |= error.reason == LOST


def _taken_in(journal: Journal, entry: Entry) -> bool:
    """Note one entry; says whether what was issued before it may still be trusted."""
    if entry.kind is Kind.USED:
        with suppress(ChallengeExpired):
            journal.use(entry.about, entry.session, entry.number)
    journal.hear(entry.session, entry.number)
    return entry.kind is not Kind.VOID


async def _pass_on(listener: Listener, heard: list[Entry], *, whole: bool, own: bytes) -> None:
    changed = dict.fromkeys(entry.about.decode("ascii") for entry in heard if entry.kind is Kind.CHANGED)
    if not whole:
        await listener.load()
    elif changed:
        await listener.changed(list(changed))
    for entry in heard:
        if entry.kind in TOLD and entry.session != own:
            await listener.told(entry.kind, entry.about)
