"""An event loop in a thread of its own, and faces without `async` over clients that live in it.

A loop that runs already (a notebook's) is not in its way. `anyio.from_thread` does the same in general, and costs each
call more.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from cloister.rpc.channel import closed

C = TypeVar("C")
T = TypeVar("T")


class LoopThread:
    """A thread that runs coroutines for others; use it as a context manager. Any thread may call it."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)  # leaves the caller's own loop alone
        self._loop = self._runner.get_loop()
        self._stop = asyncio.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="cloister-client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        atexit.register(self.close)  # for whoever leaves no block: nothing may wait for a thread that runs no more
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; what it still has to do is cancelled. Nothing is left to do the second time."""
        atexit.unregister(self.close)
        with self._closing:  # what was started before this is begun before the loop stops, and so it is cancelled
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with self._runner:  # at the end, it cancels what other threads still wait for
            self._runner.run(self._stop.wait())

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` there; cancelling the future cancels the work.

        Raises:
            Unavailable: The thread has ended, or is about to (`peer.closed`).
        """
        with self._closing:
            if self._closed:
                work.close()
                raise closed()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there and wait for it; what ends the waiting (Ctrl-C) ends the work.

        Raises:
            Unavailable: The thread has ended (`peer.closed`).
        """
        future = self.start(work)
        try:
            return _result(future)
        except BaseException:
            future.cancel()
            raise

    @contextmanager
    def entered(self, block: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter an `async with` block there, and leave it at the end of this one: in one task, as task groups want.

        Raises:
            Unavailable: The thread has ended (`peer.closed`), and with it the block.
        """
        opened: Future[T] = Future()
        closing = asyncio.Event()

        async def hold() -> None:
            try:
                async with block as value:
                    opened.set_result(value)
                    await closing.wait()
            except BaseException as error:
                if opened.done():
                    raise
                opened.set_exception(closed() if isinstance(error, asyncio.CancelledError) else error)

        held = self.start(hold())
        try:
            yield opened.result()
        finally:
            with suppress(RuntimeError):  # the loop is closed, and the block has been cancelled
                self._loop.call_soon_threadsafe(closing.set)
            _result(held)


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except CancelledError:
        raise closed() from None


class PlainFace(Generic[C]):
    """A client's calls without `async`: what is common to all of them. Each call blocks the thread that makes it.

    Args:
        connect: Connects the client; called when the `with` block is entered.
    """

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[C]]) -> None:
        self._connect = connect
        self._close: Callable[[], object] = lambda: None
        self._thread: LoopThread | None = None
        self._client: C | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._thread = stack.enter_context(LoopThread())
            self._client = stack.enter_context(self._thread.entered(self._connect()))
            self._close = stack.pop_all().close
            atexit.register(self._close)  # for whoever never leaves the block
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client = None
        atexit.unregister(self._close)
        self._close()

    @property
    def _connected(self) -> C:
        if self._client is None:
            raise RuntimeError("use the client in a 'with' block")
        return self._client

    @property
    def _loop_thread(self) -> LoopThread:
        if self._thread is None:
            raise RuntimeError("use the client in a 'with' block")
        return self._thread

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop_thread.wait(work)
