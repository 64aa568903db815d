"""What this worker serves now, and who wants to know when that changes. Called on the event loop only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cloister.api.v1.model_pb2 import SignedJobEpoch, SignedManifest
from cloister.api.v1.worker_pb2 import ModelCounters, ModelState
from cloister.errors import NotFound
from cloister.worker.engine import Engine
from cloister.worker.infer_requests import gone
from cloister.worker.job_epochs import JobEpochs

PLATFORM: Final = "openvino"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model whose key we hold a lease for.

    Attributes:
        version: As on the wire, a decimal string.
        allow_plain: Whether requests that are not sealed are answered.
        policy_digest: SHA-256 of the release policy that the owner signed; receipts name it.
        manifest: As its owner signed it; clients check it for themselves.
        stated: What the manifest says of it that its metadata repeats.
        ends_at_s: When the lease ends, on the worker's counter.
        lease_id: Its name at the provisioner.
        job_epochs: The keys that jobs for it are sealed to, as they came with the lease.
    """

    name: str
    version: str
    digest: bytes
    policy_digest: bytes
    allow_plain: bool
    manifest: SignedManifest
    ends_at_s: float
    engine: Engine
    lease_id: str = ""
    stated: Mapping[str, str] = field(default_factory=dict)
    job_epochs: JobEpochs = field(default_factory=JobEpochs)

    @property
    def state(self) -> ModelState:
        """As told to gateways."""
        engine = self.engine
        properties = {**self.stated, **engine.properties}
        metadata = engine.contract.metadata(self.name, self.version, PLATFORM, properties)
        return ModelState(
            name=self.name,
            version=self.version,
            digest=self.digest,
            allow_plain=self.allow_plain,
            metadata=metadata.SerializeToString(deterministic=True),
            manifest=self.manifest,
            calls_per_slot=engine.calls_per_slot,
        )


class Missing(NamedTuple):
    """A model that should be served and is not: still being loaded, or why not."""

    state: ModelState.State
    reason: str = ""


class ServedModels:
    """Models by name and version, and those that are missing.

    Args:
        counter_s: The worker's counter. A lease that has ended ends here too, whatever became of its timer.
        job_epoch: Says what jobs for a model are sealed to.
    """

    def __init__(
        self,
        counter_s: Callable[[], float],
        job_epoch: Callable[[str, JobEpochs], SignedJobEpoch | None] = lambda _name, _epochs: None,
    ) -> None:
        self._counter_s = counter_s
        self._job_epoch = job_epoch
        self._models: dict[tuple[str, str], ServedModel] = {}
        self._told: dict[tuple[str, str], ModelState] = {}
        self._retired: set[tuple[str, str]] = set()
        self._missing: dict[tuple[str, str], Missing] = {}
        self._newest: dict[str, str] = {}
        self._watchers: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._models)

    @property
    def calls_per_slot(self) -> int:
        """Of all models together."""
        return sum(model.engine.calls_per_slot for model in self._models.values())

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def put(self, model: ServedModel) -> None:
        """Serve a model, in place of the one of this name and version if there is one."""
        key = (model.name, model.version)
        before = self._models.get(key)
        self._models[key] = model
        came_back = key in self._retired and before is not None and before.engine is not model.engine
        if came_back:  # loaded again, as after a rollback, while the one before it goes
            self._retired.discard(key)
        was_missing = self._missing.pop(key, None) is not None
        told, self._told[key] = self._told.get(key), self._state(model)
        if came_back or was_missing or told != self._told[key]:
            self._changed()

    def tell_news(self) -> None:
        """Have those who watch look again if something else is said of a model than was."""
        told, self._told = self._told, {key: self._state(model) for key, model in self._models.items()}
        if told != self._told:
            self._changed()

    def retire(self, model: ServedModel) -> None:
        """Tell nobody of a model any more, and go on answering those who were told of it before."""
        key = (model.name, model.version)
        if self._is_here(model) and key not in self._retired:
            self._retired.add(key)
            self._changed()

    def drop(self, model: ServedModel) -> None:
        """Serve a model no longer."""
        key = (model.name, model.version)
        if self._is_here(model):
            del self._models[key], self._told[key]
            self._retired.discard(key)
            self._changed()

    def miss(self, name: str, version: str, missing: Missing | None) -> None:
        """Say of a model that should be served why it is not; None once there is nothing more to say.

        Args:
            name: Of the model.
            version: Empty for the newest, where nobody has said which that is.
            missing: Why.
        """
        key = (name, version)
        if self._missing.get(key) != missing:
            self._missing.pop(key, None)
            if missing is not None:
                self._missing[key] = missing
            self._changed()

    def find(self, name: str, version: str) -> ServedModel:
        """The model of this name and version; an empty version is the highest that others are told of.

        Raises:
            NotFound: None such is served.
        """
        model = self._find(name, version)
        if model is None:
            raise NotFound("no such model")
        return model

    def leased(self, name: str) -> list[ServedModel]:
        """All versions of a model whose leases go now."""
        now_s = self._counter_s()
        return [model for model in self._models.values() if model.name == name and model.ends_at_s > now_s]

    def digest_of(self, name: str, version: str) -> bytes | None:
        """The digest of the model that `find` finds, if any."""
        model = self._find(name, version)
        return model.digest if model is not None else None

    def check(self, model: ServedModel) -> None:
        """See whether a model that was found before may still answer: under the lease that goes now.

        Raises:
            NotReady: It was dropped, or its lease has ended, as after a pause of the whole process.
        """
        here = self._models.get((model.name, model.version))
        if here is None or here.engine is not model.engine or here.ends_at_s <= self._counter_s():
            raise gone()

    def states(self) -> list[ModelState]:
        """All, as told to gateways."""
        listed = [self._state(model) for key, model in sorted(self._models.items()) if key not in self._retired]
        keys = {(state.name, state.version) for state in listed}
        missing = [
            ModelState(name=name, version=version, state=missing.state, reason=missing.reason)
            for (name, version), missing in sorted(self._missing.items())
            if (name, version) not in keys
        ]
        return listed + missing

    def counters(self) -> list[ModelCounters]:
        """What each has done, as told to gateways."""
        return [
            model.engine.counts.message(model.name, model.version, model.engine.waiting)
            for _, model in sorted(self._models.items())
        ]

    @contextmanager
    def watching(self, changed: Callable[[], None]) -> Iterator[None]:
        """Have `changed` called whenever something else is served than before."""
        self._watchers.append(changed)
        try:
            yield
        finally:
            self._watchers.remove(changed)

    def _state(self, model: ServedModel) -> ModelState:
        """What is told of a model, with the key that jobs for it are sealed to."""
        state = model.state
        said = self._job_epoch(model.name, model.job_epochs)
        if said is not None:
            state.job_epoch.CopyFrom(said)
        return state

    def _is_here(self, model: ServedModel) -> bool:
        """Whether it is served, and not another in its place; a renewed lease makes it no other."""
        here = self._models.get((model.name, model.version))
        return here is not None and here.engine is model.engine

    def _find(self, name: str, version: str) -> ServedModel | None:
        model = self._models.get((name, version or self._newest.get(name, "")))
        return model if model is not None and model.ends_at_s > self._counter_s() else None

    def _changed(self) -> None:
        listed = self._models.keys() - self._retired
        self._newest = dict(sorted(listed, key=lambda known: int(known[1])))
        for watcher in self._watchers:
            watcher()
