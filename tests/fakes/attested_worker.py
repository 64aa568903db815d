"""The inside of a worker that has attested and holds one model, and a client that believes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from cloister.api.oip.inference_pb2 import ModelInferResponse
from cloister.api.v1.model_pb2 import SignedManifest
from cloister.api.v1.seal_pb2 import OpenedResponse
from cloister.oip.tensors import encode_request
from cloister.seal import envelope
from cloister.seal.hpke import X25519, KeyPair
from cloister.seal.job import JobKey, JobOpener, JobSealer, JobTicket
from cloister.seal.session import ClientSessions, PendingResponse, RecipientKey, WorkerSessions
from cloister.worker.answers import Answers
from cloister.worker.attester import OwnResult
from cloister.worker.clock import MeshClock
from cloister.worker.job_epochs import HeldEpoch, JobEpochs
from cloister.worker.job_keys import JobKeys
from cloister.worker.keys import WorkerKeys
from cloister.worker.served import ServedModel, ServedModels
from fakes.engines import FakeEngine
from fakes.results import Clock

CLUSTER = "demo.cloister.internal"
MODEL = "iris"
DIGEST = bytes(range(32))
POLICY = bytes(range(32, 64))
EAR_ID = "ear-1"
NEVER_MS = 1 << 50


@dataclass
class Inside:
    """What answers requests in a worker, on a clock that a test moves."""

    keys: WorkerKeys = field(default_factory=WorkerKeys.fresh)
    hpke: KeyPair = field(default_factory=lambda: KeyPair.generate(X25519))
    epoch: KeyPair = field(default_factory=lambda: KeyPair.generate(X25519))
    engine: FakeEngine = field(default_factory=FakeEngine)
    allow_plain: bool = True
    token: str = "a token"

    def __post_init__(self) -> None:
        self.counter = Clock()
        self.clock = MeshClock(self.counter)
        self.clock.hear(datetime.now(UTC))
        now = self.clock.now()
        self.vouched = OwnResult(self.token, EAR_ID, now, now + timedelta(hours=1), b"")
        self.served = ServedModels(self.counter)
        self.model = ServedModel(
            name=MODEL,
            version="2",
            digest=DIGEST,
            policy_digest=POLICY,
            allow_plain=self.allow_plain,
            manifest=SignedManifest(),
            ends_at_s=self.counter() + 3600,
            engine=self.engine,
            job_epochs=JobEpochs([HeldEpoch(1, self.epoch, NEVER_MS, NEVER_MS, b"policy", bytes(64))]),
        )
        self.served.put(self.model)
        self.sessions = WorkerSessions(self.hpke, CLUSTER, self.keys.instance)
        self.sessions.epochs.attest(self.hpke.key_id, EAR_ID)
        keys = JobKeys(self.served, now=self.clock.now, counter_s=self.counter, renew=lambda _: None)
        self.jobs = JobOpener(keys.pair, CLUSTER)
        self.answers = self.made()

    def made(self, **options) -> Answers:
        """The part under test."""
        named = {"vouched": lambda: self.vouched, "instance": self.keys.instance}
        return Answers(self.served, self.sessions, self.jobs, self.clock, self.keys.receipt, **(named | options))

    def also_serve(self, **changes) -> ServedModel:
        model = replace(self.model, **changes)
        self.served.put(model)
        return model


@dataclass
class Client:
    """Seals to one worker, and opens what it answers."""

    inside: Inside

    def __post_init__(self) -> None:
        hpke = self.inside.hpke
        self.sessions, self.jobs = ClientSessions(CLUSTER), JobSealer(CLUSTER)
        self.recipient = RecipientKey(self.inside.keys.instance, hpke.suite, hpke.public)

    def seal(
        self, request=None, *, digest: bytes = DIGEST, version: str = "", life_s: float = 30, model: str = MODEL
    ) -> tuple[bytes, PendingResponse]:
        """A serialised envelope, and what opens the answer."""
        raw = (request if request is not None else tensors()).SerializeToString()
        sealed, pending = self.sessions.seal(
            raw,
            model_name=model,
            model_version=version,
            model_digest=digest,
            not_after=self.inside.clock.now() + timedelta(seconds=life_s),
            recipients=[self.recipient],
        )
        carried = envelope.build_request(
            sealed, model_name=model, model_version=version, instances=[self.recipient.instance], request_id="outer"
        )
        return carried.SerializeToString(), pending

    def seal_job(
        self,
        request=None,
        *,
        digest: bytes = b"",
        version: str = "",
        life_s: float = 3600,
        model: str = MODEL,
        known: dict[str, str] | None = None,
    ) -> tuple[bytes, JobTicket]:
        """A serialised envelope of a job, and its ticket."""
        now, epoch = self.inside.clock.now(), self.inside.epoch
        ends = now + timedelta(days=1)
        sealed, ticket = self.jobs.seal(
            (request if request is not None else tensors()).SerializeToString(),
            epoch=JobKey(
                model_name=model, epoch=1, suite=epoch.suite, public=epoch.public, seal_until=ends, open_until=ends
            ),
            not_after=now + timedelta(seconds=life_s),
            model_version=version,
            model_digest=digest,
            known=known,
        )
        return envelope.build_job(sealed, model_name=model, model_version=version).SerializeToString(), ticket


def tensors(
    value: float = 1.0, *, rows: int = 1, outputs=(), identifier: str = "inner", model: str = MODEL, version=""
):
    """A request in clear."""
    x = np.full((rows, 3), value, np.float32)
    return encode_request(model, {"x": x}, outputs=outputs, id=identifier, version=version)


def opened(pending: PendingResponse, response: bytes) -> OpenedResponse:
    """Open the serialised answer to a sealed request."""
    return pending.open(envelope.sealed_response(ModelInferResponse.FromString(response)))
