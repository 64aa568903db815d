"""What a worker meets on the wire: a verifier and a provisioner that behave, and can be told not to."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cloister import ear
from cloister.api.v1 import provisioner_pb2 as release_pb
from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerServicer, add_ProvisionerServicer_to_server
from cloister.api.v1.verifier_pb2_grpc import VerifierServicer, add_VerifierServicer_to_server
from cloister.errors import EvidenceRejected, KeyRefused
from cloister.evidence import binding
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import Server, current_peer
from cloister.rpc import certificates
from cloister.rpc.channel import Peer
from cloister.rpc.spiffe import server_name, spiffe_id
from cloister.seal.grant import EpochKey, ModelGrant, grant_info, proof_message, seal_grant
from cloister.seal.keys import ModelKey, Secret
from cloister.seal.manifest import ModelManifest, Signed, sign
from cloister.seal.model_file import seal_model
from cloister.worker.app import serve
from cloister.worker.sealed_source import SEALED_NAME
from cloister.worker.settings import Settings
from cloister.worker.tuning import Tunings
from fakes.pki import MeshPki
from fakes.results import good_result

QUOTE = b"quote over "


class FakeQuoter:
    """Says which report data it was asked to quote."""

    async def quote(self, report_data: bytes) -> bytes:
        return QUOTE + report_data


class FakeVerifier(VerifierServicer):
    """Believes every quote of `FakeQuoter`, until told otherwise.

    Attributes:
        membership_s: Life of a membership.
        error: Raised by Appraise, for the purposes in `refuse`.
        appraised: Who asked for what, in order: (role, purpose).
        left: Instances that said so.
        signs_with: The key that results are signed with.
        spoil: Changes a result before it is signed.
        shown: The results that workers showed who watch.
        keys_asked: How often somebody asked for the keys.
    """

    def __init__(self, pki: MeshPki) -> None:
        self.pki = pki
        self.key = self.signs_with = ear.SigningKey.generate()
        self.spoil = lambda result: result
        self.membership_s = 3600.0
        self.error: Exception = EvidenceRejected("the request was refused")
        self.refuse: set[int] = set()
        self.appraised: list[tuple[str, int]] = []
        self.claims: list[binding.Claims] = []
        self.results: dict[str, ear.AttestationResult] = {}
        self.left: list[str] = []
        self.revoked: list[pb.Revocation] = []
        self.key_set = b""
        self.keys_asked = 0
        self.trust_changed = asyncio.Condition()
        self.shown: list[str] = []
        self.changed = asyncio.Condition()
        self._nonces: dict[bytes, tuple[bytes, int]] = {}

    async def Challenge(self, request, context):
        challenge_id, nonce = secrets.token_bytes(16), secrets.token_bytes(32)
        self._nonces[challenge_id] = (nonce, request.purpose)
        return pb.ChallengeResponse(challenge_id=challenge_id, nonce=nonce, expires_at_ms=1)

    async def Appraise(self, request, context):
        nonce, purpose = self._nonces.pop(request.challenge_id)
        async with self.changed:
            self.appraised.append((current_peer().role, purpose))
            self.changed.notify_all()
        if purpose in self.refuse:
            raise self.error
        claims = binding.decode(request.evidence.claims)
        self.claims.append(claims)
        assert claims.nonce == nonce
        assert request.evidence.quote == QUOTE + binding.report_data(request.evidence.claims)
        assert hashlib.sha256(request.tls_spki).digest() == claims.tls_spki_sha256
        mesh = purpose == pb.PURPOSE_MESH
        now = datetime.now(UTC).replace(microsecond=0)
        result = good_result(
            audience="mesh" if mesh else "provisioner",
            ear_id=secrets.token_hex(8),
            issued_at=now,
            expires_at=now + timedelta(seconds=max(1, round(self.membership_s)) if mesh else 300),
            nonce=nonce,
            spiffe_id=claims.spiffe_id,
            instance=claims.instance,
            tls_spki_sha256=claims.tls_spki_sha256,
            receipt_key=claims.receipt_key,
            hpke_suite=claims.hpke_suite,
            hpke_public=claims.hpke_public,
            config_digest=claims.config_digest,
        )
        result = self.spoil(result)
        self.results[result.ear_id] = result
        chain = self._certified(request.tls_spki, claims.instance) if mesh else b""
        return pb.AppraiseResponse(attestation_result=ear.issue(result, self.signs_with), certificate_chain=chain)

    async def WatchTrust(self, request, context):
        async with self.changed:
            self.shown.append(request.attestation_result)
            self.changed.notify_all()
        sequence = 0
        async with self.trust_changed:
            while True:
                sequence += 1
                await context.write(
                    pb.TrustEvent(sequence=sequence, listed=True, revocations=self.revoked, key_set=self.key_set)
                )
                await self.trust_changed.wait()

    async def GetKeys(self, request, context):
        self.keys_asked += 1
        return pb.GetKeysResponse(key_set=self.key_set)

    async def tell(self, *revocations, key_set=b""):
        """Tell workers what is revoked, and which keys sign."""
        async with self.trust_changed:
            self.revoked, self.key_set = list(revocations), key_set
            self.trust_changed.notify_all()

    async def Leave(self, request, context):
        async with self.changed:
            self.left.append(current_peer().name)
            self.changed.notify_all()
        return pb.LeaveResponse()

    async def until(self, done) -> None:
        async with asyncio.timeout(15), self.changed:
            await self.changed.wait_for(done)

    def count(self, purpose: int) -> int:
        return sum(asked == purpose for _, asked in self.appraised)

    def _certified(self, tls_spki: bytes, instance: str) -> bytes:
        leaf = certificates.issue(
            self.pki.attested,
            certificates.load_spki(tls_spki),
            spiffe_id(self.pki.cluster, "worker", instance),
            now=datetime.now(UTC),
            life=timedelta(hours=1),
            usage=certificates.Usage.SERVICE,
            dns=(server_name(self.pki.cluster, "worker", instance),),
        )
        return leaf + self.pki.attested.certificate_pem


@dataclass
class SealedModel:
    """A model as its owner keeps it."""

    manifest: ModelManifest
    signed: Signed
    key: Secret


class FakeProvisioner(ProvisionerServicer):
    """Releases the keys of its models to whoever the verifier believes.

    Attributes:
        models: By name: all versions, the newest last.
        error: Raised by ReleaseKey instead, while set.
        tamper: Changes the answer before it leaves.
        epochs: What jobs are sealed to, in every grant.
        asked: How often ReleaseKey was called.
        withdrawn: Names, and names with versions, that are released no more and whose leases have ended.
    """

    def __init__(self, verifier: FakeVerifier) -> None:
        self.models: dict[str, list[SealedModel]] = {}
        self.owner = Ed25519PrivateKey.generate()
        self.allow_plain = True
        self.lease_s = 600
        self.policy_digest = hashlib.sha256(b"policy").digest()
        self.error: Exception | None = None
        self.tamper = lambda answer: None
        self.epochs: tuple[EpochKey, ...] = ()
        self.asked = 0
        self.withdrawn: set[str] = set()
        self.changed = asyncio.Condition()
        self._leases: dict[str, tuple[str, str]] = {}
        self._stale: set[str] = set()
        self._told = asyncio.Condition()
        self._verifier = verifier
        self._nonces: set[bytes] = set()

    def publish(
        self, folder: Path, name: str, version: int, files: dict[str, memoryview], **stated: Any
    ) -> SealedModel:
        """Seal a model, put it where workers look, and know its key; `stated` is what else its manifest says."""
        key, out = Secret.random(), io.BytesIO()
        sealed = seal_model(
            {inner: io.BytesIO(content) for inner, content in files.items()}, out, key, name=name, version=version
        )
        path = folder / name / str(version) / SEALED_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(out.getvalue())
        manifest = ModelManifest(
            name=name,
            version=version,
            digest=sealed.digest,
            size_bytes=sealed.size_bytes,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            files=sealed.header.files,
            **stated,
        )
        model = SealedModel(manifest, sign(manifest, self.owner), key)
        self.models.setdefault(name, []).append(model)
        return model

    async def ChallengeRelease(self, request, context):
        nonce = secrets.token_bytes(32)
        self._nonces.add(nonce)
        return release_pb.ChallengeReleaseResponse(nonce=nonce, expires_at_ms=1)

    async def ReleaseKey(self, request, context):
        async with self.changed:
            self.asked += 1
            self.changed.notify_all()
        self._nonces.remove(request.nonce)
        result = ear.check(
            request.attestation_result,
            ear.KeySet.from_jwks(json.dumps({"keys": [self._verifier.key.jwk()]})),
            issuer=good_result().issuer,
            audience="provisioner",
            now=datetime.now(UTC),
            max_life=timedelta(minutes=5),
        )
        assert result.spiffe_id == current_peer().spiffe_id
        message = proof_message(request.nonce, request.attestation_result, request.model_name, request.model_version)
        Ed25519PublicKey.from_public_bytes(result.receipt_key).verify(request.proof, message)
        if self.error is not None:
            raise self.error
        versions = self.models.get(request.model_name, [])
        found = [each for each in versions if request.model_version in (0, each.manifest.version)]
        found = [each for each in found if self.withdrawn.isdisjoint(_names(each.manifest))]
        if not found:
            raise KeyRefused("the request was refused")
        answer = self._released(found[-1], result)
        self.tamper(answer)
        return answer

    async def WatchLeases(self, request, context):
        sequence = 0
        async with self._told:
            while True:
                sequence += 1
                mine = [lease_id for lease_id in request.lease_ids if lease_id in self._leases]
                ended = [lease_id for lease_id in mine if not self.withdrawn.isdisjoint(self._leases[lease_id])]
                changed = [lease_id for lease_id in mine if lease_id in self._stale and lease_id not in ended]
                await context.write(release_pb.LeaseEvent(sequence=sequence, ended=ended, changed=changed))
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await self._told.wait()

    async def withdraw(self, *names: str) -> None:
        """Release a model, or `name@version`, no more, and tell its workers."""
        async with self._told:
            self.withdrawn |= set(names)
            self._told.notify_all()

    async def tell_change(self) -> None:
        """Have all leases that were given so far asked for again."""
        async with self._told:
            self._stale |= self._leases.keys()
            self._told.notify_all()

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(15), self.changed:
            await self.changed.wait_for(lambda: self.asked >= times)

    def _released(self, model: SealedModel, result: ear.AttestationResult) -> release_pb.ReleaseKeyResponse:
        manifest, lease_id = model.manifest, secrets.token_hex(8)
        self._leases[lease_id] = _names(manifest)
        grant = ModelGrant(
            model_key=ModelKey(model.key),
            model_name=manifest.name,
            model_version=manifest.version,
            model_digest=manifest.digest,
            allow_plain=self.allow_plain,
            lease_s=self.lease_s,
            policy_digest=self.policy_digest,
            epochs=self.epochs,
        )
        info = grant_info(result.cluster, result.instance, manifest.digest, manifest.version, lease_id, result.ear_id)
        sealed = seal_grant(grant, suite=result.hpke_suite, public=result.hpke_public, info=info)
        return release_pb.ReleaseKeyResponse(
            manifest=release_pb.SignedManifest(
                manifest=model.signed.manifest, signature=model.signed.signature, public_key=model.signed.public_key
            ),
            lease_id=lease_id,
            sealed_grant=sealed,
        )


def _names(manifest: ModelManifest) -> tuple[str, str]:
    return manifest.name, f"{manifest.name}@{manifest.version}"


@dataclass
class WorkerMesh:
    """Verifier and provisioner behind real mutual TLS, and settings for a worker beside them."""

    pki: MeshPki
    folder: Path
    verifier: FakeVerifier = field(init=False)
    provisioner: FakeProvisioner = field(init=False)
    quoter: FakeQuoter = field(default_factory=FakeQuoter)

    def __post_init__(self) -> None:
        self.verifier = FakeVerifier(self.pki)
        self.provisioner = FakeProvisioner(self.verifier)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[WorkerMesh]:
        async with AsyncExitStack() as stack:
            lifecycle = await stack.enter_async_context(Lifecycle.running())
            for role, add, servicer, callers in (
                ("verifier", add_VerifierServicer_to_server, self.verifier, {"enrol", "worker"}),
                ("provisioner", add_ProvisionerServicer_to_server, self.provisioner, {"worker"}),
            ):
                name = f"cloister.api.v1.{role.capitalize()}"
                server = await stack.enter_async_context(
                    Server.mtls(
                        "127.0.0.1:0",
                        self.pki.identity(role, "main").held(),
                        lifecycle=lifecycle,
                        roles={name: callers},
                    )
                )
                server.add(add, servicer)
                await server.start()
                setattr(self, f"{role}_port", server.port)
            yield self

    def verifier_keys(self, *keys: ear.SigningKey) -> Path:
        """The file that pins these keys, or the verifier's own."""
        path = self.folder / "jwks.json"
        path.write_text(json.dumps({"keys": [key.jwk() for key in keys or (self.verifier.key,)]}))
        return path

    def settings(self, **changes) -> Settings:
        address = f"127.0.0.1:{_free_port()}"
        fields = {
            "cluster": self.pki.cluster,
            "verifier": f"127.0.0.1:{self.verifier_port}",
            "provisioner": f"127.0.0.1:{self.provisioner_port}",
            "verifier_keys": self.verifier_keys(),
            "models": ("tiny",),
            "model_owners": (self.provisioner.owner.public_key().public_bytes_raw().hex(),),
            "models_dir": self.folder / "models",
            "tls": self.pki.identity("enrol", "main").write(self.folder / "enrol"),
            "listen": address,
            "hpke_suite": "x25519",
            "slots": 8,
            "grace_s": 5.0,
        }
        return Settings(**(fields | changes))

    @asynccontextmanager
    async def worker(
        self, settings: Settings | None = None, tunings: Tunings | None = None
    ) -> AsyncIterator[RunningWorker]:
        """A worker in this process, up to `serve`'s first answer; it stops with the block."""
        settings, known = settings or self.settings(), len(self.verifier.claims)
        async with Lifecycle.running() as lifecycle:
            task = lifecycle.spawn(serve(settings, lifecycle, self.quoter, tunings), "worker")
            await self.verifier.until(lambda: len(self.verifier.claims) > known)
            yield RunningWorker(settings, lifecycle, task, self, self.verifier.claims[known].instance)
            lifecycle.stop()
            async with asyncio.timeout(15):
                await task


@dataclass
class RunningWorker:
    """A worker under test, and who may call it."""

    settings: Settings
    lifecycle: Lifecycle
    task: asyncio.Task[None]
    mesh: WorkerMesh
    instance: str

    def peer(self, role: str = "gateway", instance: str | None = None) -> Peer:
        identity = self.mesh.pki.identity(role, "main").held()
        name = server_name(self.mesh.pki.cluster, "worker", instance or self.instance)
        return Peer(self.settings.listen, identity, name)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
