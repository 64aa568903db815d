"""Which models a worker keeps: its settings', the newest few on disk, and what an operator orders."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from cloister.api.v1.worker_pb2 import ModelOrder, ModelState
from cloister.errors import KeyRefused, NotReady
from cloister.worker import repository
from cloister.worker.backoff import Backoff
from cloister.worker.keeper import ModelKeeper
from cloister.worker.memory import MemoryBudget
from cloister.worker.model_folder import ModelFolder
from cloister.worker.repository import MAX_ORDERS, Repository
from cloister.worker.sealed_source import MISSING, SEALED_NAME
from cloister.worker.served import ServedModels
from cloister.worker.settings import WantedModel
from fakes.engines import FakeEngine
from fakes.releases import FakeReleases

LOAD, UNLOAD = ModelOrder.KIND_LOAD, ModelOrder.KIND_UNLOAD


class Desk:
    """A repository on a folder, with fake keys and engines."""

    def __init__(self, folder, group, loadable):
        self.folder = folder
        self.served = ServedModels(time.monotonic)
        self.releases = FakeReleases(time.monotonic)
        self.engines = {}
        self.load_error = None
        self.repository = Repository(
            self.keeper,
            lambda coroutine, name: group.create_task(coroutine, name=name),
            ModelFolder(folder),
            loadable=loadable,
        )

    def keeper(self, wanted):
        return ModelKeeper(
            wanted,
            releases=self.releases,
            load=self.load,
            served=self.served,
            counter_s=time.monotonic,
            memory=MemoryBudget(0),
            sealed_bytes=lambda _: 1,
            backoff=Backoff(0.001, 0.002),
            linger_s=0.0,
        )

    async def load(self, release, room):
        if self.load_error is not None:
            raise self.load_error
        key = (release.manifest.name, release.manifest.version)
        self.engines[key] = FakeEngine()
        return self.engines[key]

    def place(self, name, version):
        path = self.folder / name / str(version) / SEALED_NAME
        path.parent.mkdir(parents=True)
        path.write_bytes(b"sealed")

    async def order(self, kind, name, version=""):
        """What came of it: None, or the reason why not."""
        done = asyncio.get_running_loop().create_future()
        order = ModelOrder(order_id=3, kind=kind, model_name=name, model_version=version)
        self.repository.submit(order, done.set_result)
        async with asyncio.timeout(10):
            result = await done
        assert result.order_id == 3
        return result.failure.reason or None

    def ready(self):
        return [f"{state.name}@{state.version}" for state in self.served.states() if not state.state]

    async def until_ready(self, *expected):
        changed = asyncio.Event()
        with self.served.watching(changed.set):
            async with asyncio.timeout(10):
                while self.ready() != list(expected):
                    await changed.wait()
                    changed.clear()


@asynccontextmanager
async def running(folder, *models, loadable=True):
    async with asyncio.TaskGroup() as group:
        desk, tasks = Desk(folder, group, loadable), asyncio.all_tasks()
        for text in models:
            desk.repository.want(WantedModel.parse(text))
        group.create_task(desk.repository.run())
        yield desk
        for task in asyncio.all_tasks() - tasks:
            task.cancel()


async def test_versions_are_loaded_and_unloaded_side_by_side(tmp_path):
    async with running(tmp_path, "iris@1") as desk:
        await desk.until_ready("iris@1")
        assert await desk.order(LOAD, "iris", "2") is None
        assert desk.ready() == ["iris@1", "iris@2"]
        assert await desk.order(LOAD, "iris", "2") is None
        assert desk.releases.asked_for == [1, 2]
        assert await desk.order(UNLOAD, "iris", "1") is None
        assert desk.ready() == ["iris@2"]
        assert desk.engines["iris", 1].closed
        assert not desk.engines["iris", 2].closed
        assert await desk.order(UNLOAD, "iris", "1") == "name.unknown"
        assert await desk.order(UNLOAD, "iris") is None
        assert desk.served.states() == []


def lease_of(desk, name, version):
    return desk.served.find(name, version).lease_id


@pytest.mark.attack("J14")
async def test_only_what_is_held_under_a_withdrawn_lease_goes(tmp_path):
    async with running(tmp_path, "iris@1", "iris@2", "wine@3") as desk:
        await desk.until_ready("iris@1", "iris@2", "wine@3")
        assert desk.repository.lease_ids == {
            lease_of(desk, name, version) for name, version in (("iris", "1"), ("iris", "2"), ("wine", "3"))
        }
        desk.releases.error = KeyRefused("no")
        desk.repository.end([lease_of(desk, "iris", "1"), lease_of(desk, "wine", "3"), "nobody's"])
        await desk.until_ready("iris@2")
        assert desk.engines["iris", 1].closed
        assert desk.engines["wine", 3].closed
        assert not desk.engines["iris", 2].closed


async def test_a_newer_version_whose_file_comes_late_is_served_as_soon_as_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "LOOK_S", 0.01)
    async with running(tmp_path, "iris") as desk:
        await desk.until_ready("iris@2")
        desk.releases.version, desk.load_error = 3, NotReady("no file", reason=MISSING)
        desk.repository.renew("iris")
        await desk.releases.until_asked(3)  # and the old one for longer
        assert desk.releases.asked_for == [0, 0, 2]
        desk.load_error = None
        desk.place("iris", 3)
        await desk.until_ready("iris@3")


async def test_only_what_has_changed_is_asked_for_again(tmp_path):
    async with running(tmp_path, "iris@1", "iris@2") as desk:
        await desk.until_ready("iris@1", "iris@2")
        changed, same = lease_of(desk, "iris", "1"), lease_of(desk, "iris", "2")
        desk.repository.ask_again([changed, "nobody's"])
        await desk.releases.until_asked(3)
        assert desk.releases.asked_for[2:] == [1]
        assert lease_of(desk, "iris", "2") == same


async def test_the_leases_of_all_versions_of_a_model_are_renewed_when_asked(tmp_path):
    async with running(tmp_path, "iris@1", "iris@2", "wine") as desk:
        await desk.until_ready("iris@1", "iris@2", "wine@2")
        for kept in desk.repository._kept.values():
            while kept.keeper._renewing_at is None:  # noqa: ASYNC110 - it waits for its renewal in a moment
                await asyncio.sleep(0)
        desk.repository.renew("iris")
        desk.repository.renew("other")
        await desk.releases.until_asked(5)
        assert sorted(desk.releases.asked_for) == [0, 1, 1, 2, 2]


async def test_unloading_waits_for_what_is_under_way(tmp_path):
    async with running(tmp_path, "iris@1") as desk:
        await desk.until_ready("iris@1")
        engine = desk.engines["iris", 1]
        engine.gate.clear()
        unloading = asyncio.ensure_future(desk.order(UNLOAD, "iris"))
        await desk.until_ready()
        assert desk.served.find("iris", "1").engine is engine
        assert not engine.closed
        engine.gate.set()
        assert await unloading is None
        assert engine.closed
        assert len(desk.served) == 0


async def test_a_worker_that_is_not_loadable_obeys_no_order(tmp_path):
    async with running(tmp_path, "iris@1", loadable=False) as desk:
        await desk.until_ready("iris@1")
        assert await desk.order(LOAD, "iris", "2") == "model.not_loadable"
        assert await desk.order(UNLOAD, "iris") == "model.not_loadable"
        assert desk.ready() == ["iris@1"]


@pytest.mark.parametrize(
    ("error", "reason", "said"),
    [
        (KeyRefused("the owner is another", reason="owner.other"), "owner.other", "key.refused: the provisioner's"),
        (NotReady("no file", reason="model.missing"), "model.missing", "model.missing: no file"),
    ],
)
async def test_what_cannot_be_loaded_is_said_and_not_tried_again(tmp_path, error, reason, said):
    async with running(tmp_path, "iris@1") as desk:
        await desk.until_ready("iris@1")
        desk.load_error = error
        assert await desk.order(LOAD, "wine", "4") == reason
        asked = desk.releases.asked
        await asyncio.sleep(0.02)
        assert desk.releases.asked == asked
        (missing,) = [state for state in desk.served.states() if state.state]
        assert (missing.name, missing.version, missing.state) == ("wine", "4", ModelState.STATE_UNAVAILABLE)
        assert missing.reason.startswith(said)
        desk.load_error = None
        assert await desk.order(LOAD, "wine", "4") is None
        assert desk.ready() == ["iris@1", "wine@4"]


async def test_an_order_that_failed_is_forgotten_once_it_is_taken_back(tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "MAX_FAILED", 2)
    async with running(tmp_path, "iris@1") as desk:
        await desk.until_ready("iris@1")
        desk.load_error = NotReady("no file", reason="model.missing")
        for version in ("3", "4", "5"):
            assert await desk.order(LOAD, "wine", version) == "model.missing"
        assert [state.version for state in desk.served.states() if state.state] == ["4", "5"]
        assert await desk.order(UNLOAD, "wine", "4") is None
        assert [state.version for state in desk.served.states() if state.state] == ["5"]
        assert await desk.order(UNLOAD, "wine") is None
        assert await desk.order(UNLOAD, "wine") == "name.unknown"
        assert desk.ready() == [f"{state.name}@{state.version}" for state in desk.served.states()] == ["iris@1"]


async def test_loading_what_follows_the_newest_version_takes_a_newer_one_at_once(tmp_path):
    async with running(tmp_path, "iris") as desk:
        await desk.until_ready("iris@2")
        desk.releases.version = 3
        assert await desk.order(LOAD, "iris") is None
        await desk.until_ready("iris@3")
        assert await desk.order(LOAD, "iris", "2") == "model.followed"
        assert await desk.order(UNLOAD, "iris", "3") is None
        assert desk.ready() == []


@pytest.mark.parametrize(
    ("name", "version"), [("Iris", ""), ("iris", "0"), ("iris", "newest:2"), ("iris@2", ""), ("", ""), ("../x", "1")]
)
async def test_orders_that_are_none(tmp_path, name, version):
    async with running(tmp_path) as desk:
        expected = None if name == "iris@2" else "request.invalid"
        assert await desk.order(LOAD, name, version) == expected
        desk.repository.submit(ModelOrder(order_id=3, model_name="iris"), lambda result: None)


async def test_more_orders_than_it_remembers_are_refused(tmp_path):
    async with asyncio.TaskGroup() as group:
        desk, told = Desk(tmp_path, group, True), []
        for _ in range(MAX_ORDERS + 1):
            desk.repository.submit(ModelOrder(kind=LOAD, model_name="iris"), told.append)
        assert [result.failure.reason for result in told] == ["queue.full"]


async def test_the_newest_few_are_kept_and_an_older_one_only_until_they_all_serve(tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "LOOK_S", 0.01)
    async with running(tmp_path, "iris@newest:2") as desk:
        for version in (1, 2, 3):
            desk.place("iris", version)
        await desk.until_ready("iris@2", "iris@3")
        desk.load_error = NotReady("no", reason="model.missing")
        desk.place("iris", 10)
        asked = desk.releases.asked
        await desk.releases.until_asked(asked + 3)
        assert desk.ready() == ["iris@2", "iris@3"]
        desk.load_error = None
        await desk.until_ready("iris@10", "iris@3")
        assert await desk.order(LOAD, "iris", "1") is None
        assert await desk.order(UNLOAD, "iris", "10") is None
        await desk.until_ready("iris@1", "iris@2", "iris@3")
        await asyncio.sleep(0.05)
        assert desk.ready() == ["iris@1", "iris@2", "iris@3"]
        assert await desk.order(LOAD, "iris") is None
        await desk.until_ready("iris@1", "iris@10", "iris@3")


def test_a_folder_is_a_hint_and_what_is_odd_in_it_nothing(tmp_path):
    folder = ModelFolder(tmp_path)
    for name in ("1", "12", "3", "x", "03", "0", "99999999999"):
        (tmp_path / "iris" / name).mkdir(parents=True)
        (tmp_path / "iris" / name / SEALED_NAME).write_bytes(b"sealed")
    (tmp_path / "iris" / "20").mkdir()
    (tmp_path / "iris" / "21").mkdir()
    (tmp_path / "iris" / "21" / SEALED_NAME).symlink_to(tmp_path / "iris" / "1" / SEALED_NAME)
    assert folder.versions("iris") == [12, 3, 1]
    assert folder.versions("wine") == []
    assert folder.size_bytes(WantedModel("iris", 0)) == folder.size_bytes(WantedModel("iris", 3)) == 6
    assert folder.size_bytes(WantedModel("iris", 20)) == folder.size_bytes(WantedModel("wine", 0)) == 0
