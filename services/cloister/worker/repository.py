"""Which models this worker keeps: those of its settings, and those that an operator has loaded or unloaded since.

An operator's order comes through a gateway, which nobody trusts with more than availability, and asks for availability:
a model is loaded only if the measured settings let it be (`loadable`), if its owner is among those that they name, and
if the provisioner releases its key by the owner's policy. Orders are obeyed one after another, and forgotten when the
worker ends. Where the newest few versions are wanted, which those are is read off the host's folder: it could withhold
a file anyway. An older one goes once all that are newer are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, Final, NamedTuple

from cloister.api.v1.worker_pb2 import ModelOrder, OrderResult
from cloister.errors import CloisterError, InvalidRequest, NotAllowed, NotFound, NotReady, Overloaded
from cloister.kit.log import get_logger
from cloister.rpc.status import failure_of
from cloister.worker.keeper import ModelKeeper
from cloister.worker.model_folder import ModelFolder
from cloister.worker.settings import WantedModel

LOOK_S: Final = 2.0
MAX_ORDERS: Final = 16
MAX_KEPT: Final = 256
MAX_FAILED: Final = 64
_log = get_logger()

Done = Callable[[OrderResult], None]
Spawn = Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]]


class _Kept(NamedTuple):
    keeper: ModelKeeper
    task: asyncio.Task[Any]


class Repository:
    """The keepers of one worker, by name and version (0 for whichever is the newest).

    Args:
        keeper: Makes one.
        spawn: Runs one for as long as the service lives.
        folder: What lies on disk.
        loadable: Whether orders are obeyed.
    """

    def __init__(
        self, keeper: Callable[[WantedModel], ModelKeeper], spawn: Spawn, folder: ModelFolder, *, loadable: bool
    ) -> None:
        self._keeper = keeper
        self._spawn = spawn
        self._folder = folder
        self._loadable = loadable
        self._kept: dict[tuple[str, int], _Kept] = {}
        self._followed: dict[str, int] = {}
        self._loaded: set[tuple[str, int]] = set()
        self._unloaded: set[tuple[str, int]] = set()
        self._failed: dict[tuple[str, int], ModelKeeper] = {}
        self._orders: asyncio.Queue[tuple[ModelOrder, Done]] = asyncio.Queue(MAX_ORDERS)

    def want(self, wanted: WantedModel) -> None:
        """Keep what the settings name."""
        if wanted.newest > 1:
            self._followed[wanted.name] = wanted.newest
        else:
            self._keep(wanted)

    def submit(self, order: ModelOrder, done: Done) -> None:
        """Have an order obeyed; `done` is called with what came of it."""
        try:
            self._orders.put_nowait((order, done))
        except asyncio.QueueFull:
            error = Overloaded("this worker has many models to load or unload already")
            done(OrderResult(order_id=order.order_id, failure=failure_of(error)))

    def renew(self, name: str) -> None:
        """Have the keys of all versions of a model asked for again at once."""
        for (kept_name, _), kept in self._kept.items():
            if kept_name == name:
                kept.keeper.renew_now()

    @property
    def lease_ids(self) -> frozenset[str]:
        """Of all that is held here."""
        return frozenset[str]().union(*(kept.keeper.lease_ids for kept in self._kept.values()))

    def end(self, lease_ids: Collection[str]) -> None:
        """Drop what is held under these leases, at once."""
        for kept in self._kept.values():
            for lease_id in kept.keeper.lease_ids.intersection(lease_ids):
                kept.keeper.end(lease_id)

    def ask_again(self, lease_ids: Collection[str]) -> None:
        """Have the keys again at once of what is served under these leases."""
        for kept in self._kept.values():
            if kept.keeper.model is not None and kept.keeper.model.lease_id in lease_ids:
                kept.keeper.renew_now()

    async def run(self) -> None:
        """Obey orders, and look for files that are to be served, for as long as the service runs."""
        await self._look()
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    order, done = await self._orders.get()
            except TimeoutError:
                await self._look()
                continue
            result = OrderResult(order_id=order.order_id)
            try:
                await self._obey(order)
            except (CloisterError, TimeoutError) as error:
                result.failure.CopyFrom(failure_of(error))
            done(result)

    async def _look(self) -> None:
        for name in self._followed:
            await self._follow(name)
        awaited = [(kept.keeper, kept.keeper.awaited) for kept in self._kept.values()]
        for keeper, wanted in awaited:
            if wanted is not None and await asyncio.to_thread(self._folder.size_bytes, wanted) > 0:
                keeper.renew_now()

    async def _obey(self, order: ModelOrder) -> None:
        if not self._loadable:
            raise NotAllowed("this worker's settings let nobody load or unload models", reason="model.not_loadable")
        text = f"{order.model_name}@{order.model_version}" if order.model_version else order.model_name
        wanted = WantedModel.parse(text)
        if wanted.newest > 1:
            raise InvalidRequest("a version is a number")
        _log.info("model.ordered", kind=ModelOrder.Kind.Name(order.kind), model=wanted.name, version=wanted.version)
        if order.kind == ModelOrder.KIND_LOAD:
            await self._load(wanted)
        elif order.kind == ModelOrder.KIND_UNLOAD:
            await self._unload(wanted)
        else:
            raise InvalidRequest("an order is to load or to unload")

    async def _load(self, wanted: WantedModel) -> None:
        self._unloaded = {
            each for each in self._unloaded if each[0] != wanted.name or wanted.version not in (0, each[1])
        }
        if wanted.name in self._followed and not wanted.version:
            for keeper in await self._follow(wanted.name):
                await keeper.progress.outcome()
            return
        kept = self._kept.get(wanted[:2])
        if kept is None:
            await self._load_anew(wanted)
        elif not wanted.version or kept.keeper.model is None:
            kept.keeper.renew_now()
            await kept.keeper.progress.outcome()

    async def _load_anew(self, wanted: WantedModel) -> None:
        by_newest = {version == 0 for name, version in self._kept if name == wanted.name}
        if by_newest - {wanted.version == 0}:
            rule = "the newest version of it" if wanted.version else "it by version numbers"
            raise NotReady(
                f"this worker serves {rule}; load {wanted.name}{'' if wanted.version else '@VERSION'}, "
                "or list it otherwise in the worker's settings",
                reason="model.followed",
            )
        if len(self._kept) >= MAX_KEPT:
            raise Overloaded("this worker keeps as many models as it may", reason="models.full")
        keeper = self._keep(wanted)
        self._loaded.add(wanted[:2])
        self._forget([wanted[:2]])
        try:
            await keeper.progress.outcome()
        except (CloisterError, TimeoutError):
            await self._end(wanted[:2])
            self._failed[wanted[:2]] = keeper  # what is missing, and why, stays to be seen
            self._forget(list(self._failed)[:-MAX_FAILED])
            raise

    async def _unload(self, wanted: WantedModel) -> None:
        going = [
            key
            for key, kept in self._kept.items()
            if key[0] == wanted.name
            and (
                wanted.version in (0, key[1])
                or (kept.keeper.model and int(kept.keeper.model.version) == wanted.version)
            )
        ]
        failed = [key for key in self._failed if key[0] == wanted.name and wanted.version in (0, key[1])]
        if not going and not failed:
            raise NotFound("this worker serves no such model")
        self._forget(failed)
        self._unloaded.update(going)
        await self._let_go(going)

    async def _follow(self, name: str) -> list[ModelKeeper]:
        """Start what is new among the newest versions on disk, and end what is older than all of them once they serve.

        Returns:
            The keepers that were started.
        """
        on_disk = await asyncio.to_thread(self._folder.versions, name)
        wanted = [version for version in on_disk if (name, version) not in self._unloaded][: self._followed[name]]
        started = [self._keep(WantedModel(name, version)) for version in wanted if (name, version) not in self._kept]
        serving = [
            kept.keeper.model is not None for key, kept in self._kept.items() if key[0] == name and key[1] in wanted
        ]
        if wanted and all(serving):
            others = self._kept.keys() - self._loaded
            older = [key for key in others if key[0] == name and key[1] < min(wanted)]
            await self._let_go(older)
        return started

    def _keep(self, wanted: WantedModel) -> ModelKeeper:
        keeper = self._keeper(wanted)
        self._kept[wanted[:2]] = _Kept(keeper, self._spawn(keeper.keep(), f"model {wanted}"))
        return keeper

    async def _let_go(self, keys: list[tuple[str, int]]) -> None:
        """Answer what is under way, then drop keys and models."""
        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(self._kept[key].keeper.leave())
        for key in keys:
            keeper = self._kept[key].keeper
            await self._end(key)
            keeper.progress.end()
            _log.info("model.unloaded", model=key[0], version=key[1])

    def _forget(self, keys: Iterable[tuple[str, int]]) -> None:
        """Say no longer of models why an order to load them failed."""
        for key in keys:
            if (keeper := self._failed.pop(key, None)) is not None and key not in self._kept:
                keeper.progress.end()

    async def _end(self, key: tuple[str, int]) -> None:
        task = self._kept.pop(key).task
        self._loaded.discard(key)
        task.cancel()
        await asyncio.wait([task])
