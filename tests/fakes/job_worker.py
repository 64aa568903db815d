"""Workers that have a model's epoch key, say so, and answer jobs: beside `fakes.serving.FakeWorker`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1.model_pb2 import JobEpoch, SignedReleasePolicy
from cloister.api.v1.provisioner_pb2 import ReleasePolicy
from cloister.api.v1.seal_pb2 import OpenedJobResult
from cloister.kit.signed_policy import POLICY_TYPE
from cloister.rpc.status import failure_of
from cloister.seal import envelope
from cloister.seal.hpke import X25519, KeyPair
from cloister.seal.job_epoch import sign_epoch
from cloister.seal.job_worker import JobOpener
from cloister.seal.manifest import sign_policy
from fakes.serving import DIGEST, MODEL, OWNER, FakeWorker
from fakes.sim import CLUSTER, ENCLAVE


def signed_policy(owner: Ed25519PrivateKey = OWNER, **changes: Any) -> SignedReleasePolicy:
    """A release policy that lets in the enclave of the tests and nothing else."""
    fields = {
        "model_name": MODEL,
        "version": 1,
        "mrenclave": [ENCLAVE.mrenclave.hex()],
        "tcb_statuses": ["UpToDate", "SWHardeningNeeded"],
        "allow_simulated": True,
        "lease_s": 3600,
        "cluster": CLUSTER,
    }
    raw = ReleasePolicy(**(fields | changes)).SerializeToString(deterministic=True)
    return SignedReleasePolicy(policy=raw, signature=sign_policy(raw, owner))


def jointly_signed_policy(
    *signers: Ed25519PrivateKey, signer_sets: Sequence[bytes], **changes: Any
) -> SignedReleasePolicy:
    """The same, signed by these people of the last of the signer sets."""
    raw = signed_policy(**{"signer_set": len(signer_sets), **changes}).policy
    return SignedReleasePolicy(policy=raw, signature=dsse.sign(raw, POLICY_TYPE, signers), signer_sets=signer_sets)


@dataclass
class Epoch:
    """A key that jobs are sealed to.

    Attributes:
        changes: Go to the statement of each worker.
    """

    number: int = 1
    pair: KeyPair = field(default_factory=lambda: KeyPair.generate(X25519))
    policy: SignedReleasePolicy = field(default_factory=signed_policy)
    seal_until: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(hours=2))
    open_until: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(hours=26))
    changes: dict[str, Any] = field(default_factory=dict)

    def statement(self, worker: FakeWorker) -> JobEpoch:
        """What a worker says of it."""
        fields = {
            "cluster": CLUSTER,
            "instance": worker.instance,
            "ear_id": worker.result.ear_id,
            "model_name": MODEL,
            "epoch": self.number,
            "hpke_suite": self.pair.suite,
            "hpke_public": self.pair.public,
            "seal_until_ms": int(self.seal_until.timestamp() * 1000),
            "open_until_ms": int(self.open_until.timestamp() * 1000),
            "policy": self.policy,
        }
        return JobEpoch(**(fields | self.changes))


class JobWorker:
    """Answers jobs for a worker.

    Args:
        worker: Who answers.
        epochs: Whose keys it has; it announces the last.

    Attributes:
        spoil: Changes an answer before it is sealed.
    """

    def __init__(self, worker: FakeWorker, *epochs: Epoch) -> None:
        self.worker = worker
        self._pairs = {epoch.pair.key_id: epoch.pair for epoch in epochs}
        self._opener = JobOpener(lambda name, key_id: self._pairs.get(key_id) if name == MODEL else None, CLUSTER)
        self.spoil: Callable[[OpenedJobResult], OpenedJobResult] = lambda result: result
        self.announce(epochs[-1])

    def announce(self, epoch: Epoch) -> None:
        """Say that this is what jobs are sealed to."""
        self.worker.job_epoch = sign_epoch(epoch.statement(self.worker), self.worker.evidence.receipt_key)

    def answer(self, request: bytes) -> bytes:
        """Open, double, receipt, seal; raises what a worker tells a gateway."""
        carried = ModelInferRequest.FromString(request)
        job = self._opener.open(envelope.sealed_job(carried), now=datetime.now(UTC), digest_of=lambda *_: DIGEST)
        envelope.check_job(carried, model_name=job.model_name, model_version=job.model_version)
        self.worker.seen.append(job.request)
        if self.worker.error is not None:
            result = OpenedJobResult(failure=failure_of(self.worker.error))
        else:
            answer = self.worker.doubled(job.request, job.job_id)
            result = OpenedJobResult(response=answer.response, receipt=answer.receipt)
            ear_id = self.worker.result.ear_id
            if ear_id in job.known_results:
                result.known_result = job.known_results.index(ear_id) + 1
            else:
                result.attestation_result = self.worker.token
        return envelope.build_job_result(
            job.respond(self.spoil(result)), model_name=job.model_name, model_version=job.model_version
        ).SerializeToString()
