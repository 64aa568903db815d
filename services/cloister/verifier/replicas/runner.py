"""Runs scripts in Redis, each call with a deadline, and says what an error in an answer means."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from redis.exceptions import NoScriptError

from cloister.errors import CloisterError, NotReady, Unavailable
from cloister.kit.log import get_logger
from cloister.kit.redis import Client, command, translated
from cloister.verifier.replicas import scripts

Word = bytes | str | int
Call = tuple[str, tuple[Word, ...]]
LOST: Final = "state.lost"
_SHOWN: Final = 200
_log = get_logger()


class Runner:
    """The scripts of `scripts.py` in one Redis.

    Args:
        prefix: What all keys begin with.
        timeout_s: Deadline of each exchange.
        on_refused: Told the reason whenever something in Redis was not as it must be.
    """

    def __init__(self, client: Client, *, prefix: str, timeout_s: float, on_refused: Callable[[str], None]) -> None:
        self._client = client
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._on_refused = on_refused

    async def register(self) -> None:
        """Hand the scripts to Redis, which forgets them when it restarts."""
        for script in scripts.ALL:
            await command(self._client, self._timeout_s, "SCRIPT", "LOAD", script)

    async def run(self, script: str, *words: Word) -> Any:
        """Run one script.

        Raises:
            Unavailable: There was no answer; or Redis is not the one that the session began with, or was set back or
                flushed (`state.lost`).
            NotReady: Something there has a type that it must not have (`state.malformed`).
        """
        (answer,) = await self.run_each([(script, words)])
        if isinstance(answer, CloisterError):
            raise answer
        return answer

    async def run_each(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts one after the other, all sent at once.

        Returns:
            For each its answer, or the error that `run` would raise.

        Raises:
            Unavailable: There was no answer; nobody knows which of them ran.
        """
        with translated():
            async with asyncio.timeout(self._timeout_s):
                pipe = self._client.pipeline(transaction=False)
                for script, words in calls:
                    pipe.execute_command("EVALSHA", _sha1(script), 0, self._prefix, *words)
                answers: list[Any] = await pipe.execute(raise_on_error=False)
        return [self._meaning(answer) if isinstance(answer, Exception) else answer for answer in answers]

    def refused(self, reason: str, **about: str) -> None:
        """Note that something in Redis was not as it must be: somebody writes there who must not."""
        self._on_refused(reason)
        _log.error("state.refused", reason=reason, **about)

    def _meaning(self, answer: Exception) -> CloisterError:
        if isinstance(answer, NoScriptError) or str(answer).startswith(scripts.LOST):
            return Unavailable("the shared state was lost for a moment; try again", reason=LOST)
        self.refused("state.malformed", answer=str(answer)[:_SHOWN])
        return NotReady("the shared state is not what it must be", reason="state.malformed")


@lru_cache(maxsize=64)
def _sha1(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
