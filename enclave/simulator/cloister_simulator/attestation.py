"""Gramine's attestation files, for an enclave that runs without SGX under `gramine-direct`.

There `/dev/attestation` has no quotes. The manifest of a simulated enclave, and of no other, mounts this folder in its
place, so that the very program that attests on real hardware attests here:

    attestation_type     "dcap"; there while somebody serves the folder
    user_report_data     64 bytes, which the enclave writes
    quote                a quote over them, made at the moment when it is opened (`held_file`)

As with Gramine these files belong to one process, and whoever writes and reads at once with another may be handed a
quote over the other's report data. Gramine's files for local attestation (`report`, `target_info`) are not among them:
nothing in Cloister looks at those.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cloister.errors import AlreadyExists, InvalidRequest
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister_simulator.held_file import HeldFile

TYPE, REPORT_DATA, QUOTE = "attestation_type", "user_report_data", "quote"

_REPORT_DATA_BYTES: Final = 64
_NAMES: Final = frozenset({TYPE, REPORT_DATA, QUOTE, f"{QUOTE}.next"})
_log = get_logger()


class AttestationFiles:
    """The files of one enclave.

    Args:
        folder: Ours alone.
        quote: Makes a quote over 64 bytes.
    """

    def __init__(self, folder: Path, quote: Callable[[bytes], bytes]) -> None:
        self._report_data, self._place = folder / REPORT_DATA, folder / QUOTE
        self._quote = quote
        self._report_data.write_bytes(bytes(_REPORT_DATA_BYTES))
        self._held = HeldFile.placed(self._place)

    def answer(self) -> None:
        """Give each who waits its quote; what is opened from then on is another file."""
        while self._held.wanted():
            quote = self._quote(self._report_data.read_bytes()[:_REPORT_DATA_BYTES])
            waited_for, self._held = self._held, HeldFile.placed(self._place)
            waited_for.let_go(quote)
            _log.warning("quote.simulated")

    def close(self) -> None:
        """Whoever waits finds an empty file, which is no quote."""
        self._held.let_go()


async def serve(folder: Path, quote: Callable[[bytes], bytes], *, until_exit_of: int | None = None) -> None:
    """Serve attestation files until SIGTERM.

    Args:
        folder: Made if it is not there; else empty, or left behind by an earlier one. It is empty again afterwards.
        quote: Makes a quote over 64 bytes, quickly: it is called on the loop, where there is nothing else to do.
        until_exit_of: A process, by its number; when it ends, so does this.

    Raises:
        InvalidRequest: Other things are in the folder, others may write to it, or there is no such process.
        AlreadyExists: Somebody serves it.
        NotReady: Its file system has no leases.
    """
    async with Lifecycle.running(signals=(signal.SIGTERM, signal.SIGINT)) as lifecycle:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGIO, asked.set)
        try:
            with _exit_of(until_exit_of, lifecycle.stop), _own(folder), _served(folder, quote) as files:
                lifecycle.spawn(_answering(files, asked), "attestation.answering")
                await lifecycle.stopping.wait()
        finally:
            loop.remove_signal_handler(signal.SIGIO)


async def _answering(files: AttestationFiles, asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        files.answer()


@contextmanager
def _served(folder: Path, quote: Callable[[bytes], bytes]) -> Iterator[AttestationFiles]:
    """The type is there last and gone first, so that whoever finds it finds the rest."""
    (folder / TYPE).unlink(missing_ok=True)
    files = AttestationFiles(folder, quote)
    try:
        (folder / TYPE).write_bytes(b"dcap")
        _log.warning("attestation.simulated", folder=str(folder), meaning="its quotes say nothing about hardware")
        yield files
    finally:
        (folder / TYPE).unlink(missing_ok=True)
        files.close()
        for name in _NAMES:
            (folder / name).unlink(missing_ok=True)


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Hold a folder for ourselves, after a look whether it is one of ours; the kernel lets go of it when we end."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyExists(f"{folder} is served already; each enclave has a folder of its own") from None
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise InvalidRequest(f"{folder} is another user's, or others may write to it; make it yours, 0700")
        if strange := sorted({each.name for each in folder.iterdir()} - _NAMES):
            raise InvalidRequest(f"{folder} is not a folder for attestation files: it holds {strange[0]!r}")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _exit_of(process: int | None, ended: Callable[[], None]) -> Iterator[None]:
    if process is None:
        yield
        return
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        raise InvalidRequest(f"there is no process {process}") from None
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        with suppress(OSError):
            os.close(descriptor)
