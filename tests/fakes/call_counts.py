"""How often each function of ours was called, in whatever thread: for tests that two ways cost the same."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Here(ThreadPoolExecutor):
    """Runs what is submitted at once, in the caller's thread, which alone is watched."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Count calls by `module.function` while the block runs, in this thread and in what its loop hands to threads."""
    calls: Counter[str] = Counter()

    def seen(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and str(frame.f_globals.get("__name__", "")).startswith("cloister."):
            calls[f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}"] += 1

    loop = asyncio.get_running_loop()
    loop.set_default_executor(Here(1))
    sys.setprofile(seen)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        loop.set_default_executor(ThreadPoolExecutor())
