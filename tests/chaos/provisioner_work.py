"""What a provisioner does until it is killed: the real ledger, keyring, registry, releaser and epochs, in a process.

What was acknowledged is noted behind the acknowledgement, so nothing is noted that was not. Where it is to be killed a
`Strike` says, and the process does it to itself: before the nth SQL statement that it writes with, or in the middle of
a write, where the kernel ends it at a byte of a file (RLIMIT_FSIZE). Moments are for whoever watches it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.errors import CloisterError, NotReady
from cloister.kit.withdrawal import Withdrawn
from cloister.provisioner import database
from cloister.provisioner.database import NAME, Database
from cloister.provisioner.keyring import Keyring
from cloister.provisioner.models import Owner, StoredModel
from cloister.provisioner.opening import opened
from cloister.provisioner.registry import Registry
from cloister.provisioner.roots import Roots
from cloister.provisioner.rotation import Rotation
from cloister.provisioner.tables import MODEL_VERSION, POLICY, WITHDRAWAL
from cloister.provisioner.vault import RecordId
from cloister.provisioner.withdrawals import Withdrawals, model_signers
from fakes.earlier_state import write_earlier
from fakes.release_desk import MODEL_KEY, OWNER, ReleaseDesk, keyring, signed_manifest
from fakes.results import CLUSTER, MODEL, NOW
from fakes.running_services import key_file_vault, private_file

MODELS: Final = (MODEL, "wine", "digits")
OWNER_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"the key of an owner, thirty-two ")
PAGES_TO_CHECKPOINT: Final = 24
"""So the file's own log goes over into the file every few changes, and is killed in that too."""


class Kind(StrEnum):
    """How a process is killed."""

    STATEMENT = "statement"
    BYTE = "byte"
    MOMENT = "moment"


@dataclass(frozen=True, slots=True)
class Strike:
    """When: before this statement, counted from 1; that many bytes further into the largest file; after so many ms."""

    kind: Kind
    at: int


class Journal:
    """What was acknowledged, one line each; a killed process has written all that it was told."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, done: str, **more: Any) -> None:
        """Write one line."""
        os.write(self._descriptor, (json.dumps({"done": done, **more}) + "\n").encode())


def work(folder: Path, strike: Strike | None, seed: int, *, script: bool) -> int:
    """Open the state and work on it; returns the number of statements where nobody kills it.

    Args:
        folder: Of the site: `state` and `journal` are in it.
        strike: When to be killed, as far as the process does that itself.
        seed: Of what is done.
        script: Everything once, in order, rather than all at once without an end.
    """
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # the service's log, of a process that is killed soon
    counted = _Statements(strike.at if strike is not None and strike.kind is Kind.STATEMENT else 0)
    if strike is not None and strike.kind is Kind.BYTE:
        _limit_files(folder / "state", strike.at)
    with _watched(counted), started(folder) as provisioner:
        asyncio.run(Work(provisioner, Journal(folder / "journal"), Random(seed)).run(script=script))
    return counted.number


@dataclass
class Provisioner:
    """The inside of one, over the state of a site."""

    desk: ReleaseDesk
    ring: Keyring
    rotation: Rotation
    withdrawals: Withdrawals


@contextmanager
def started(folder: Path) -> Iterator[Provisioner]:
    """Open a site as a start does, with settings that name its root key and the next one."""
    state = folder / "state"
    vaults = key_file_vault(folder / "root.key"), key_file_vault(folder / "next.key")
    with Database.opened(state / NAME) as database:
        roots = Roots.opened(*vaults, state, database.root_key_ids())
        with opened(database, roots.keyring, cluster=CLUSTER) as ledger:
            desk = ReleaseDesk(state, ledger, owner=OWNER_KEY, now=_today(folder))
            desk.keyring = roots.keyring
            desk.epochs = desk.new_epochs()
            desk.registry = Registry(cluster=CLUSTER, store=desk.store, keyring=roots.keyring, ledger=ledger)
            desk.releaser = desk.new_releaser(started_at=desk.now, keyring=roots.keyring)
            withdrawals = Withdrawals(
                cluster=CLUSTER,
                ledger=ledger,
                signers=partial(model_signers, CLUSTER),
                told=lambda _name: None,
                now=lambda: desk.now,
            )
            yield Provisioner(desk, roots.keyring, Rotation(ledger, roots, CLUSTER), withdrawals)


class Work:
    """One process's work at a desk."""

    def __init__(self, provisioner: Provisioner, journal: Journal, random: Random) -> None:
        self._desk = provisioner.desk
        self._rotation = provisioner.rotation
        self._withdrawals = provisioner.withdrawals
        self._journal = journal
        self._random = random

    async def run(self, *, script: bool) -> None:
        """All of it once, or without an end."""
        if script:
            for name in MODELS[:2]:
                for step in (self.register, self.allow, self.release):
                    await step(name)
            for step in (self.register, self.allow, self.release, self.withdraw, self.rotate):
                await step(MODEL)
            for _ in range(4):
                await self.destroy(MODEL)
            return
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(self._again(self.release))
            for step in (self.register, self.allow, self.rotate, self.destroy):
                group.create_task(self._again(step))
            group.create_task(self._again(self.withdraw, pause_ms=60))

    async def register(self, name: str) -> None:
        """The next version of a model."""
        with self._desk.ledger.looking() as look:
            version = look.newest(MODEL_VERSION, name) + 1
        sequence = await asyncio.to_thread(self._desk.register, name=name, version=version)
        self._journal.note("registered", name=name, version=version, sequence=sequence)

    async def allow(self, name: str) -> None:
        """The next policy of a model."""
        with self._desk.ledger.looking() as look:
            version = look.newest(POLICY, name) + 1
        allowed = {"model_name": name, "version": version, "min_model_version": 1}
        sequence = await asyncio.to_thread(self._desk.allow, **allowed)
        self._journal.note("allowed", name=name, version=version, sequence=sequence)

    async def release(self, name: str) -> None:
        """A key for a worker; begins an epoch where one is due."""
        released = await self._desk.releaser.release(self._desk.request(model=name), self._desk.worker.peer())
        self._journal.note("released", name=name, lease_id=released.lease_id)

    async def withdraw(self, name: str) -> None:
        """The oldest version of a model that is not withdrawn yet."""
        with self._desk.ledger.looking() as look:
            gone = look.numbers(WITHDRAWAL, name)
            left = [version for version in look.numbers(MODEL_VERSION, name) if version not in gone]
        if left:
            await asyncio.to_thread(
                self._withdrawals.withdraw, OWNER, Withdrawn(name, left[0]), reason="a drill", by=OWNER
            )
            self._journal.note("withdrawn", name=name, version=left[0])

    async def rotate(self, _name: str) -> None:
        """Everything goes over to the next root key, or on with that."""
        with suppress(NotReady):  # it has gone over
            sequence = (await asyncio.to_thread(self._rotation.begin, OWNER)).sequence
            self._journal.note("rotating", sequence=sequence)
        await asyncio.to_thread(self._rotation.sweep)

    async def destroy(self, _name: str) -> None:
        """A day passes, and with it epochs."""
        self._desk.now += timedelta(days=1)
        self._journal.note("day", days=(self._desk.now - NOW).days)
        await asyncio.to_thread(self._desk.epochs.destroy_ended, self._desk.now)

    async def _again(self, step: Callable[[str], Any], pause_ms: float = 5) -> None:
        while True:
            try:
                await step(self._random.choice(MODELS))
            except CloisterError:  # a model that is not there yet, two at once, a full disk
                await asyncio.sleep(0.001)
            await asyncio.sleep(self._random.random() * pause_ms / 1000)


def found_site(folder: Path) -> None:
    """A folder with two root keys, and the state of an earlier version under the first of them."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "state").mkdir(parents=True, mode=0o700)
    private_file(folder / "root.key", b"r" * 32)
    private_file(folder / "next.key", b"n" * 32)
    write_earlier(folder / "state", _older_model())


def _older_model() -> StoredModel:
    """One that an earlier version had registered."""
    manifest = signed_manifest(OWNER_KEY, name="older", version=1)
    owner = Owner(OWNER, manifest.public_key)
    record = RecordId("older", 1, hashlib.sha256(manifest.manifest).digest(), owner.key)
    wrapped = keyring().wrap(record, MODEL_KEY)
    return StoredModel(
        "older", 1, owner, manifest.manifest, manifest.signature, b"", wrapped.content, wrapped.root_key_id
    )


class _Statements:
    """Counts the statements of the connection that writes, and kills the process before one of them."""

    def __init__(self, fatal: int) -> None:
        self.number = 0
        self._fatal = fatal

    def __call__(self, _statement: str) -> None:
        self.number += 1
        if self.number == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _watched(counted: _Statements) -> Iterator[None]:
    """Connections of the ledger are traced as they are made, and put pages into the file often."""
    connect = database._connect

    def traced(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute(f"PRAGMA wal_autocheckpoint = {PAGES_TO_CHECKPOINT}")
        connection.set_trace_callback(counted)
        return connection

    database._connect = traced
    try:
        yield
    finally:
        database._connect = connect


def _limit_files(state: Path, further: int) -> None:
    """Have the kernel end this process where a file grows beyond a byte, be it in the middle of a write."""
    largest = max((path.stat().st_size for path in state.iterdir()), default=0)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + further, resource.RLIM_INFINITY))


def _today(folder: Path) -> Any:
    days = [line["days"] for line in noted(folder) if line["done"] == "day"]
    return NOW + timedelta(days=max(days, default=0))


def noted(folder: Path) -> list[dict[str, Any]]:
    """What the processes of a site have noted."""
    path = folder / "journal"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
