"""Sealing and opening a model of 1 GiB, beside AES-256-GCM alone, and what memory it takes: `make bench-seal`.

The files lie in memory (`/dev/shm`, else a temporary folder and its page cache), so no disk is measured; reading and
writing them is, for AES-256-GCM alone as well. In memory that goes over the same 1 MiB again and again. CPU time, the
system's and the user's, in runs that take turns; each ratio is of one turn. Opened, a model is in memory whole, by
design: what counts is the growth beside it.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console
from rich.table import Table

from cloister.seal.keys import ModelKey, Secret
from cloister.seal.model_file import SealedModel, open_model, seal_model

MODEL_BYTES, CHUNK_BYTES, TURNS = 1 << 30, 1 << 20, 3
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # in a folder of our own


class Files:
    """A model, and what it is sealed to: both files, or the one in this process's memory and the other nowhere."""

    def __init__(self, folder: Path) -> None:
        self.plain, self.sealed = folder / "weights", folder / "sealed"
        self.key = ModelKey(Secret.random())
        block = os.urandom(CHUNK_BYTES)
        with self.plain.open("wb") as file:
            for _ in range(MODEL_BYTES // CHUNK_BYTES):
                file.write(block)

    def seal(self, source: Path | BytesIO | None = None, out: Path | None = None) -> SealedModel:
        """From one to the other."""
        with (out or self.sealed).open("wb") as sink:
            return seal_model({"weights": source or self.plain}, sink, self.key, name="bench", version=1)

    def open(self, digest: bytes) -> None:
        """From its file into memory, and dropped."""
        with self.sealed.open("rb", buffering=0) as source:
            open_model(source, self.key, name="bench", version=1, digest=digest)

    def open_from(self, source: BytesIO, digest: bytes, room: memoryview) -> None:
        """Into memory that is there already."""
        source.seek(0)
        open_model(source, self.key, name="bench", version=1, digest=digest, buffer=lambda _: room)


class Alone:
    """AES-256-GCM by its library, a chunk at a time."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._aead, self._plain = AESGCM(bytes(32)), bytearray(CHUNK_BYTES)
        self._sealed = bytearray(self._aead.encrypt(bytes(12), self._plain, None))

    def seal(self) -> None:
        """As many bytes as a model, the same ones again and again."""
        for number in range(MODEL_BYTES // CHUNK_BYTES):
            self._aead.encrypt_into(number.to_bytes(12), self._plain, None, self._sealed)

    def open(self) -> None:
        """As many bytes as a model, the same ones again and again."""
        self._sealed[:] = self._aead.encrypt(bytes(12), self._plain, None)
        for _ in range(MODEL_BYTES // CHUNK_BYTES):
            self._aead.decrypt_into(bytes(12), self._sealed, None, self._plain)

    def seal_files(self) -> None:
        """From the model's file to another."""
        with self._files.plain.open("rb", buffering=0) as source, self._files.sealed.open("wb", buffering=0) as sink:
            while source.readinto(self._plain):
                self._aead.encrypt_into(bytes(12), self._plain, None, self._sealed)
                sink.write(self._sealed)

    def open_file(self, sealed: Path) -> None:
        """From a file that `seal_files` wrote, into memory."""
        opened = memoryview(bytearray(MODEL_BYTES))
        with sealed.open("rb", buffering=0) as source:
            for begin in range(0, MODEL_BYTES, CHUNK_BYTES):
                source.readinto(self._sealed)
                self._aead.decrypt_into(bytes(12), self._sealed, None, opened[begin : begin + CHUNK_BYTES])


def _spent(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _read(path: Path) -> BytesIO:
    return BytesIO(path.read_bytes())


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def _in_memory() -> Iterator[Path]:
    with TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def _turns(table: Table, name: str, ours: Callable[[], object], raw: Callable[[], object]) -> None:
    turns = [(_spent(ours), _spent(raw)) for _ in range(TURNS)]
    speeds = [MODEL_BYTES / 1e9 / statistics.median(spent) for spent in zip(*turns, strict=True)]
    ratio = statistics.median(raw_s / ours_s for ours_s, raw_s in turns)
    table.add_row(name, *(f"{speed:.2f}" for speed in speeds), f"{ratio:.2f}")


def main() -> None:
    """Measure and print."""
    console = Console()
    table = Table("", "GB/s of CPU", "AES-256-GCM alone", "ratio", title=f"a model of {MODEL_BYTES >> 20} MiB")
    with _in_memory() as folder:
        files, begun_mib = Files(folder), _peak_mib()
        digest = files.seal().digest
        sealed_mib = _peak_mib()
        files.open(digest)
        opened_mib = _peak_mib()
        alone, null = Alone(files), Path(os.devnull)
        _turns(table, "sealing, file to file", files.seal, alone.seal_files)
        alone.seal_files()
        raw_file = files.sealed.rename(folder / "raw")
        digest = files.seal().digest
        _turns(table, "opening, file to memory", lambda: files.open(digest), lambda: alone.open_file(raw_file))
        raw_file.unlink()
        _turns(table, "sealing, memory to nowhere", partial(files.seal, _read(files.plain), null), alone.seal)
        room = memoryview(bytearray(files.plain.read_bytes()))
        digest = files.seal().digest
        ours = partial(files.open_from, _read(files.sealed), digest, room)
        _turns(table, "opening, memory to memory", ours, alone.open)
    console.print(table)
    beside_mib = opened_mib - sealed_mib - (MODEL_BYTES >> 20)
    console.print(
        f"peak RSS grew by {sealed_mib - begun_mib:.0f} MiB sealing, opening by the model's and {beside_mib:.0f}"
    )


if __name__ == "__main__":
    main()
