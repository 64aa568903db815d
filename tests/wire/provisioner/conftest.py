"""A provisioner with real mutual TLS, a verifier's key that it believes, and an owner with one model."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import ear
from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.ear import SigningKey
from cloister.rpc.channel import Peer
from cloister.seal.manifest import sign_policy
from fakes.pki import MeshPki
from fakes.release_desk import MODEL_KEY, signed_manifest
from fakes.results import good_policy, good_result
from fakes.running_services import (
    CALL_S,
    Running,
    WireWorker,
    provisioner_settings,
    running_provisioner,
)
from fakes.sim import simulated_platform


@dataclass
class Desk:
    """The provisioner, and those who call it."""

    running: Running
    pki: MeshPki
    verifier_key: SigningKey
    worker: WireWorker
    owner_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def owner(self, name: str = "alice") -> Peer:
        """The owner's connection."""
        return self.running.as_role("owner", name)

    def as_worker(self, worker: WireWorker | None = None) -> Peer:
        """A worker's connection, with the certificate that the verifier would have given it."""
        worker = worker or self.worker
        return self.running.peer(self.pki.identity("worker", worker.instance, key=worker.tls).held())

    def token(self, worker: WireWorker | None = None, **changes: Any) -> str:
        """A fresh result for a worker."""
        worker = worker or self.worker
        now = datetime.now(UTC).replace(microsecond=0)
        fields: dict[str, Any] = {
            "ear_id": secrets.token_hex(8),
            "issuer": f"spiffe://{self.pki.cluster}/verifier/one",
            "issued_at": now,
            "expires_at": now + timedelta(minutes=5),
            "instance": worker.instance,
            "spiffe_id": f"spiffe://{self.pki.cluster}/worker/{worker.instance}",
            "tls_spki_sha256": hashlib.sha256(worker.spki).digest(),
            "receipt_key": worker.receipt.public_key().public_bytes_raw(),
            "hpke_suite": worker.hpke.suite,
            "hpke_public": worker.hpke.public,
        }
        return ear.issue(good_result(**{**fields, **changes}), self.verifier_key)

    async def register(self, peer: Peer, **changes: Any) -> pb.RegisterModelResponse:
        """Register the model."""
        manifest, signature, public_key = signed_manifest(self.owner_key, **changes)
        request = pb.RegisterModelRequest(
            manifest=pb.SignedManifest(manifest=manifest, signature=signature, public_key=public_key),
            model_key=MODEL_KEY.reveal(),
        )
        stub: Any = peer.stub(ProvisionerStub)
        answer: pb.RegisterModelResponse = await stub.RegisterModel(request, timeout=CALL_S)
        return answer

    async def allow(self, peer: Peer, **changes: Any) -> pb.SetReleasePolicyResponse:
        """Set the policy."""
        raw = good_policy(**changes).SerializeToString()
        request = pb.SetReleasePolicyRequest(policy=raw, signature=sign_policy(raw, self.owner_key))
        stub: Any = peer.stub(ProvisionerStub)
        answer: pb.SetReleasePolicyResponse = await stub.SetReleasePolicy(request, timeout=CALL_S)
        return answer


@pytest.fixture(scope="session")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture
async def desk(tmp_path: Path, pki: MeshPki) -> AsyncIterator[Desk]:
    """Model registered and allowed."""
    key = SigningKey.generate()
    async with running_provisioner(provisioner_settings(tmp_path, pki, key), pki) as running:
        made = Desk(running, pki, key, WireWorker(pki, simulated_platform()))
        async with made.owner() as owner:
            await made.register(owner)
            await made.allow(owner)
        yield made
