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
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chaos.provisioner_loss import OPERATOR, deal, restore_all, resume
from chaos.provisioner_roots import opened_with_both
from cloister.errors import CloisterError
from cloister.kit.withdrawal import Withdrawn
from cloister.provisioner.leasing.withdrawals import Withdrawals, model_signers
from cloister.provisioner.ledger import database
from cloister.provisioner.ledger.tables import MODEL_VERSION, POLICY, WITHDRAWAL
from cloister.provisioner.models.rotation import Rotation
from cloister.provisioner.models.stored import Owner, StoredModel, last_held
from cloister.provisioner.recovery.dealing import Recovery
from cloister.provisioner.vaults.vault import RecordId
from fakes.release_desk import MODEL_KEY, OWNER, ReleaseDesk, keyring, signed_manifest
from fakes.results import CLUSTER, MODEL, NOW

MODELS: Final = (MODEL, "wine", "digits")
OWNER_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"the key of an owner, thirty-two ")
RESTORES: Final = 0.3
"""So many of the processes begin where the root key was lost."""
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
    random, journal = Random(seed), Journal(folder / "journal")
    with _watched(counted):
        if not script and random.random() < RESTORES:
            _restore(folder / "state", journal)
        with opened_with_both(folder / "state") as (ledger, roots):
            desk = ReleaseDesk(folder / "state", ledger, owner=OWNER_KEY, now=_today(folder), keyring=roots.keyring)
            desk.releaser = desk.new_releaser(started_at=desk.now)
            asyncio.run(Work(desk, roots, journal, random).run(script=script))
        if script:
            _restore(folder / "state", journal)
    return counted.number


def _restore(state: Path, journal: Journal) -> None:
    """The root key is lost, and owners give their shares."""
    restored = restore_all(state)
    if restored is not None:
        journal.note("restored", secrets=restored.secrets, sequence=restored.sequence)


class Work:
    """One process's work at a desk."""

    def __init__(self, desk: ReleaseDesk, roots: Any, journal: Journal, random: Random) -> None:
        self._desk = desk
        self._rotation = Rotation(desk.ledger, roots, CLUSTER)
        self._recovery = Recovery(cluster=CLUSTER, ledger=desk.ledger, keyring=roots.keyring)
        self._withdrawals = Withdrawals(
            cluster=CLUSTER,
            ledger=desk.ledger,
            signers=partial(model_signers, CLUSTER),
            told=lambda _name: None,
            now=lambda: desk.now,
        )
        self._journal = journal
        self._random = random

    async def run(self, *, script: bool) -> None:
        """All of it once, or without an end."""
        if script:
            for name in MODELS[:2]:
                for step in (self.register, self.allow, self.release):
                    await step(name)
            await self.register(MODEL)
            await self.allow(MODEL)
            await self.release(MODEL)
            await self.withdraw(MODEL)
            await self.deal()
            await self.register(MODEL)
            await self.rotate()
            await self.resume()
            await self.allow(MODEL)
            await self.release(MODEL)
            for _ in range(4):
                await self.destroy()
            return
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(self._again(self.release))
            for step in (self.register, self.allow):
                group.create_task(self._again(step))
            group.create_task(self._again(lambda _name: self.destroy()))
            group.create_task(self._again(lambda _name: self.rotate()))
            group.create_task(self._again(self.withdraw, pause_ms=60))
            group.create_task(self._again(lambda _name: self.deal(), pause_ms=200))
            group.create_task(self._again(lambda _name: self.resume(), pause_ms=400))

    async def register(self, name: str) -> None:
        """The next version of a model."""
        with self._desk.ledger.looking() as look:
            version = look.newest(MODEL_VERSION, name) + 1
        sequence = await asyncio.to_thread(self._desk.register, name=name, version=version)
        self._journal.note("registered", name=name, version=version, sequence=sequence)

    async def allow(self, name: str) -> None:
        """The next policy of a model."""
        with self._desk.ledger.looking() as look:
            version, held = look.newest(POLICY, name) + 1, last_held(look, name)
        allowed = {"model_name": name, "version": version, "min_model_version": 1, "log_generation": held}
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
            what = Withdrawn(name, left[0])
            await asyncio.to_thread(self._withdrawals.withdraw, OWNER, what, reason="a drill", by=OWNER)
            self._journal.note("withdrawn", name=name, version=left[0])

    async def destroy(self) -> None:
        """A day passes, and with it epochs."""
        self._desk.now += timedelta(days=1)
        self._journal.note("day", days=(self._desk.now - NOW).days)
        await asyncio.to_thread(self._desk.epochs.destroy_ended, self._desk.now)

    async def rotate(self) -> None:
        """Everything goes over to the other root key."""
        begun = await asyncio.to_thread(self._rotation.begin, OPERATOR)
        while await asyncio.to_thread(self._rotation.sweep):
            pass
        self._journal.note("rotated", to=begun.to, sequence=begun.sequence)

    async def deal(self) -> None:
        """The next recovery key."""
        dealt = await asyncio.to_thread(deal, self._recovery, OWNER_KEY)
        self._journal.note("dealt", generation=dealt.generation, sequence=dealt.sequence)

    async def resume(self) -> None:
        """On from an older copy; every model is held."""
        outcome = await resume(self._desk.ledger)
        self._journal.note("resumed", generation=outcome.generation, sequence=outcome.sequence)

    async def _again(self, step: Callable[[str], Any], pause_ms: float = 5) -> None:
        while True:
            try:
                await step(self._random.choice(MODELS))
            except CloisterError:  # a model that is not there yet, two at once, a full disk
                await asyncio.sleep(0.001)
            await asyncio.sleep(self._random.random() * pause_ms / 1000)


def older_model() -> StoredModel:
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
