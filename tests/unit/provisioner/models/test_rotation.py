"""The rotation of the root key, over a real ledger with models, an epoch and the log's own key in it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloister.errors import AlreadyExists, KeyRefused, NotReady, Unavailable
from cloister.provisioner.ledger.database import NAME, Database
from cloister.provisioner.ledger.opening import opened
from cloister.provisioner.models.rotation import BEGUN, ENDED, REWRAPPED, Rotation, rotating
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.root_key import RootKeyVault
from cloister.provisioner.vaults.roots import Roots
from cloister.provisioner.vaults.vault import Record, Wrapped
from cloister.seal.keys import Secret
from fakes.release_desk import ReleaseDesk
from fakes.results import CLUSTER
from fakes.running_services import key_file_vault, private_file

OPERATOR = f"spiffe://{CLUSTER}/operator/main"
OLD, NEW = (RootKeyVault(Secret(letter * 32)).key_id() for letter in (b"r", b"n"))
MODELS = 40  # more than go into one line


@dataclass
class Provisioner:
    """One start of it."""

    desk: ReleaseDesk
    roots: Roots
    rotation: Rotation

    def counts(self) -> dict[str, int]:
        """How much lies under each root key."""
        return {each.key_id: each.secrets for each in self.rotation.status()}

    def events(self, *wanted: str) -> list[dict[str, Any]]:
        """Lines of these events."""
        return [line for line in self.desk.entries() if line["event"] in wanted]


@contextmanager
def started(folder: Path) -> Iterator[Provisioner]:
    """A start over what lies in a folder, where settings name both root keys."""
    with Database.opened(folder / NAME) as database:
        vaults = key_file_vault(folder / "root.key"), key_file_vault(folder / "next.key")
        roots = Roots.opened(*vaults, folder, database.root_key_ids())
        with opened(database, roots.keyring, cluster=CLUSTER) as ledger:
            desk = ReleaseDesk(folder, ledger, keyring=roots.keyring)
            yield Provisioner(desk, roots, Rotation(ledger, roots, CLUSTER))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    private_file(tmp_path / "root.key", b"r" * 32)
    private_file(tmp_path / "next.key", b"n" * 32)
    return tmp_path


@pytest.fixture
def provisioner(folder: Path) -> Iterator[Provisioner]:
    with started(folder) as running:
        running.desk.register()
        running.desk.allow()
        yield running


async def released(desk: ReleaseDesk) -> None:
    """A worker is given the model's key, and it is the one that was registered."""
    token = desk.token(ear_id="00" * 8)
    desk.releaser = desk.new_releaser(keyring=desk.keyring)
    answer = await desk.releaser.release(desk.request(token=token), desk.worker.peer())
    assert desk.opened(answer, "00" * 8).model_key == Secret(b"the key of a model, thirty-two b")


async def test_all_goes_over_and_says_so(provisioner: Provisioner) -> None:
    desk, rotation = provisioner.desk, provisioner.rotation
    await released(desk)
    assert provisioner.counts() == {OLD: 3}, "the log's key, a model's, an epoch's"
    begun = rotation.begin(OPERATOR)
    assert (begun.to, begun.secrets) == (NEW, 3)
    assert rotation.sweep() == 3
    assert provisioner.counts() == {NEW: 3, OLD: 0}
    assert [(each.key_id, each.wraps, each.back_end) for each in rotation.status()] == [
        (NEW, True, "file"),
        (OLD, False, "file"),
    ]
    await released(desk)
    first, rewrapped, last = provisioner.events(BEGUN, REWRAPPED, ENDED)
    assert first["sequence"] == begun.sequence
    assert (first["from_roots"], first["to_root"], first["secrets"], first["by"]) == ([OLD], NEW, 3, OPERATOR)
    assert set(rewrapped["secrets"]) == {"log_key/log", "model_version/iris/2", "epoch/iris/1"}
    assert (last["event"], last["to_root"]) == (ENDED, NEW)


async def test_afterwards_the_old_root_key_is_needed_no_more(folder: Path) -> None:
    with started(folder) as running:
        running.desk.register()
        running.desk.allow()
        owner = running.desk.owner
        running.rotation.begin(OPERATOR)
        running.rotation.sweep()
    (folder / "next.key").rename(folder / "root.key")
    with started(folder) as running:
        assert running.roots.keyring.ids == {NEW}
        running.desk.owner = owner
        await released(running.desk)


async def test_releases_and_registrations_go_on_between_any_two_steps(provisioner: Provisioner) -> None:
    desk, rotation = provisioner.desk, provisioner.rotation
    await released(desk)
    rotation.begin(OPERATOR)
    await released(desk)
    desk.register(version=3)
    assert provisioner.counts() == {NEW: 1, OLD: 3}, "what is new lies under the next one at once"
    rotation.sweep()
    await released(desk)
    assert provisioner.counts() == {NEW: 4, OLD: 0}


@pytest.mark.attack("F11")
async def test_a_rotation_that_was_cut_off_goes_on_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(folder) as running:
        running.desk.register()
        running.desk.allow()
        for version in range(3, 3 + MODELS):
            running.desk.register(version=version)
        owner = running.desk.owner
        running.rotation.begin(OPERATOR)
        wrapped_so_far = iter(range(33))  # one line of 32, and one secret more

        def wrap(keyring: Keyring, record: Record, secret: Secret) -> Wrapped:
            if next(wrapped_so_far, None) is None:
                raise Unavailable("the vault does not answer", reason="vault.unavailable")
            return whole(keyring, record, secret)

        whole = Keyring.wrap
        with monkeypatch.context() as cut:
            cut.setattr(Keyring, "wrap", wrap)
            with pytest.raises(Unavailable):
                running.rotation.sweep()
        assert running.counts() == {NEW: 32, OLD: MODELS + 2 - 32}
        assert not running.events(ENDED)
    with started(folder) as running:
        running.desk.owner = owner
        assert running.roots.keyring.wrapping_id == NEW
        running.rotation.sweep()
        assert running.counts() == {NEW: MODELS + 2, OLD: 0}
        assert len(running.events(ENDED)) == 1
        assert running.rotation.sweep() == 0
        assert len(running.events(ENDED)) == 1


async def test_the_loop_goes_on_with_what_failed_and_is_woken(
    provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation = provisioner.rotation
    swept = asyncio.Event()
    outcomes: list[object] = [Unavailable("the vault does not answer"), None]
    whole = Rotation.sweep
    loop = asyncio.get_running_loop()

    def sweep(self: Rotation) -> int:
        outcome = outcomes.pop(0) if outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        done = whole(self)
        loop.call_soon_threadsafe(swept.set)
        return done

    monkeypatch.setattr(Rotation, "sweep", sweep)
    task = asyncio.ensure_future(rotating(rotation, provisioner.roots, look_s=0.01))
    async with asyncio.timeout(20):
        await swept.wait()
        await asyncio.to_thread(rotation.begin, OPERATOR)
        rotation.wanted.set()
        while provisioner.counts()[OLD]:
            swept.clear()
            await swept.wait()
    task.cancel()
    assert provisioner.counts()[NEW] == 2


@pytest.mark.attack("F09")
async def test_what_was_edited_stays_where_it_is_and_holds_up_nothing(provisioner: Provisioner, folder: Path) -> None:
    provisioner.desk.register(version=3)
    with sqlite3.connect(folder / NAME) as connection:
        connection.execute("UPDATE model_version SET wrapped_key = zeroblob(61) WHERE version = 2")
    provisioner.rotation.begin(OPERATOR)
    assert provisioner.rotation.sweep() == 2
    assert provisioner.counts() == {NEW: 2, OLD: 1}
    assert not provisioner.events(ENDED), "the old root key is not said to be needed no more"
    await released_version(provisioner.desk, 3)
    with pytest.raises(KeyRefused):
        await released_version(provisioner.desk, 2)


@pytest.mark.attack("F09")
async def test_a_wrap_of_before_the_rotation_does_not_come_back_with_the_new_root_key(
    provisioner: Provisioner, folder: Path
) -> None:
    with sqlite3.connect(folder / NAME) as connection:
        (before,) = connection.execute("SELECT wrapped_key FROM model_version").fetchone()
    provisioner.rotation.begin(OPERATOR)
    provisioner.rotation.sweep()
    with sqlite3.connect(folder / NAME) as connection:
        connection.execute("UPDATE model_version SET wrapped_key = ?", (before,))
    with pytest.raises(KeyRefused):
        await released_version(provisioner.desk, 2)


async def released_version(desk: ReleaseDesk, version: int) -> None:
    await desk.releaser.release(desk.request(version=version), desk.worker.peer())


def test_what_was_wrapped_anew_by_somebody_else_meanwhile_is_left(
    provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation, ledger = provisioner.rotation, provisioner.desk.ledger
    rotation.begin(OPERATOR)
    whole = Keyring.wrap

    def wrap(keyring: Keyring, record: Record, secret: Secret) -> Wrapped:
        monkeypatch.setattr(Keyring, "wrap", whole)
        assert Rotation(ledger, provisioner.roots, CLUSTER).sweep() == 2
        return whole(keyring, record, secret)

    monkeypatch.setattr(Keyring, "wrap", wrap)
    assert rotation.sweep() == 0
    assert len(provisioner.events(REWRAPPED)) == 1
    assert provisioner.events(ENDED)


def test_without_another_root_key_there_is_nothing_to_go_over_to(provisioner: Provisioner, folder: Path) -> None:
    private_file(folder / "next.key", b"r" * 32)
    with pytest.raises(NotReady, match="under this root key already") as refused:
        provisioner.rotation.begin(OPERATOR)
    assert refused.value.reason == "root_key.same"
    assert not provisioner.events(BEGUN)


def test_no_line_no_rotation(provisioner: Provisioner, folder: Path) -> None:
    connection = sqlite3.connect(folder / NAME)
    connection.execute("CREATE TRIGGER full BEFORE INSERT ON line BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    connection.commit()
    with pytest.raises(Unavailable):
        provisioner.rotation.begin(OPERATOR)
    assert provisioner.roots.keyring.wrapping_id == OLD
    connection.execute("DROP TRIGGER full")
    connection.commit()
    connection.close()
    provisioner.rotation.begin(OPERATOR)
    assert provisioner.roots.keyring.wrapping_id == NEW


def test_a_name_that_is_taken_stays_so_under_the_next_root_key(provisioner: Provisioner) -> None:
    provisioner.rotation.begin(OPERATOR)
    provisioner.rotation.sweep()
    with pytest.raises(AlreadyExists):
        provisioner.desk.register()
