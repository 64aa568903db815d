"""Verifier and provisioner in this process, over real mutual TLS on port 0, and a worker that walks up to them."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1 import provisioner_pb2, verifier_pb2
from cloister.api.v1.evidence_pb2 import Evidence
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.ear import SigningKey
from cloister.errors import NotReady
from cloister.evidence.binding import Claims, encode, report_data
from cloister.evidence.quoter import Quoter
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import Server
from cloister.provisioner import app as provisioner_app
from cloister.provisioner.settings import Settings as ProvisionerSettings
from cloister.provisioner.vaults.settings import KeyFileSettings, VaultSettings
from cloister.rpc.certificates import key_pem, new_key, spki
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.seal.grant import proof_message
from cloister.seal.hpke import X25519, KeyPair
from cloister.verifier import app as verifier_app
from cloister.verifier.settings import Settings as VerifierSettings
from cloister_simulator.measurement import Measurement
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.sim import ENCLAVE

CALL_S = 20.0
VERIFIER_NAME = "one"


def private_file(path: Path, content: bytes, *, mode: int = 0o600) -> Path:
    """A file that its owner alone can read, unless a test wants otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def key_file_vault(path: Path) -> VaultSettings:
    """A root key in a file."""
    return VaultSettings(file=KeyFileSettings(key_file=path))


def key_file(settings: ProvisionerSettings) -> Path:
    """The file that the root key is in."""
    assert settings.vault.file is not None
    return settings.vault.file.key_file


def verifier_settings(
    folder: Path, pki: MeshPki, platform: Platform, key: SigningKey, **changes: Any
) -> VerifierSettings:
    """Everything that a verifier reads, on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(pki.attested.certificate_pem)
    (folder / "collateral.json").write_bytes(platform.collateral())
    (folder / "root.der").write_bytes(platform.root_der())
    settings = VerifierSettings(
        cluster=pki.cluster,
        listen="127.0.0.1:0",
        tls=pki.identity("verifier", VERIFIER_NAME, ips=("127.0.0.1",)).write(folder / "tls"),
        ca_certificate=folder / "ca.pem",
        ca_private_key=private_file(folder / "ca.key", key_pem(pki.attested.key)),
        signing_key=private_file(folder / "ear.key", key.to_pem()),
        collateral=folder / "collateral.json",
        anchor_root=folder / "root.der",
        state_dir=folder / "state",
        appraisal_processes=0,
        grace_s=2.0,
    )
    return replace(settings, **changes)


def provisioner_settings(folder: Path, pki: MeshPki, *keys: SigningKey, **changes: Any) -> ProvisionerSettings:
    """Everything that a provisioner reads, on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jwks.json").write_text(json.dumps({"keys": [key.jwk() for key in keys]}))
    settings = ProvisionerSettings(
        cluster=pki.cluster,
        listen="127.0.0.1:0",
        tls=pki.identity("provisioner", "one").write(folder / "tls"),
        state_dir=folder / "state",
        vault=key_file_vault(private_file(folder / "root.key", b"r" * 32)),
        verifier_keys=folder / "jwks.json",
        verifier_thumbprints=tuple(key.kid for key in keys),
        verifier_id=f"spiffe://{pki.cluster}/verifier/{VERIFIER_NAME}",
        grace_s=2.0,
    )
    return replace(settings, **changes)


@dataclass
class Running:
    """One service that answers."""

    role: str
    server: Server
    lifecycle: Lifecycle
    pki: MeshPki
    settings: Any

    def peer(self, identity: TlsIdentity) -> Peer:
        """A connection to it, as somebody."""
        return Peer(f"127.0.0.1:{self.server.port}", identity, f"{self.role}.{self.pki.cluster}")

    def as_role(self, role: str, name: str = "main") -> Peer:
        """A connection to it in a role."""
        return self.peer(self.pki.identity(role, name).held())


@asynccontextmanager
async def running_verifier(
    settings: VerifierSettings, pki: MeshPki, quoter: Quoter | None = None
) -> AsyncIterator[Running]:
    """A verifier, until the block ends; with a quoter it has evidence of its own."""
    async with Lifecycle.running() as lifecycle, verifier_app.assembled(settings, lifecycle, quoter) as server:
        await server.start()
        yield Running("verifier", server, lifecycle, pki, settings)


@asynccontextmanager
async def running_provisioner(settings: ProvisionerSettings, pki: MeshPki) -> AsyncIterator[Running]:
    """A provisioner, until the block ends."""
    async with Lifecycle.running() as lifecycle, provisioner_app.assembled(settings, lifecycle) as server:
        await server.start()
        yield Running("provisioner", server, lifecycle, pki, settings)


async def why_not(settings: VerifierSettings | ProvisionerSettings) -> str:
    """What a service says that does not start with these."""
    with pytest.raises(NotReady) as refused:
        async with Lifecycle.running() as lifecycle, _assembled(settings, lifecycle):
            pass
    return str(refused.value)


def _assembled(
    settings: VerifierSettings | ProvisionerSettings, lifecycle: Lifecycle
) -> AbstractAsyncContextManager[Server]:
    if isinstance(settings, VerifierSettings):
        return verifier_app.assembled(settings, lifecycle)
    return provisioner_app.assembled(settings, lifecycle)


@dataclass
class WireWorker:
    """One start of a worker, with a simulated quoter, taking the steps one by one."""

    pki: MeshPki
    platform: Platform
    enclave: Measurement = ENCLAVE
    instance: str = field(default_factory=lambda: secrets.token_hex(16))
    tls: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    receipt: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    hpke: KeyPair = field(default_factory=lambda: KeyPair.generate(X25519))

    @property
    def spki(self) -> bytes:
        """DER of the TLS key."""
        return spki(self.tls.public_key())

    def evidence(self, nonce: bytes, **changes: Any) -> Evidence:
        """Claims, and a quote over them."""
        claims = Claims(
            tls_spki_sha256=hashlib.sha256(self.spki).digest(),
            nonce=nonce,
            hpke_suite=self.hpke.suite,
            hpke_public=self.hpke.public,
            receipt_key=self.receipt.public_key().public_bytes_raw(),
            role="worker",
            spiffe_id=f"spiffe://{self.pki.cluster}/worker/{self.instance}",
            cluster=self.pki.cluster,
            audience=f"spiffe://{self.pki.cluster}/verifier/{VERIFIER_NAME}",
            config_digest=bytes(32),
            instance=self.instance,
        )
        raw = encode(replace(claims, **changes))
        return Evidence(claims=raw, quote=self.platform.quote(report_data(raw), **asdict(self.enclave)))

    async def challenge(self, stub: VerifierStub, purpose: verifier_pb2.Purpose) -> verifier_pb2.ChallengeResponse:
        """Ask for a nonce."""
        request = verifier_pb2.ChallengeRequest(purpose=purpose, tls_spki_sha256=hashlib.sha256(self.spki).digest())
        return await stub.Challenge(request, timeout=CALL_S)  # type: ignore[misc, no-any-return]  # an aio stub

    async def appraised(
        self, peer: Peer, purpose: verifier_pb2.Purpose = verifier_pb2.PURPOSE_MESH, **changes: Any
    ) -> verifier_pb2.AppraiseResponse:
        """Challenge, quote, appraisal."""
        stub: Any = peer.stub(VerifierStub)
        challenge = await self.challenge(stub, purpose)
        answer: verifier_pb2.AppraiseResponse = await stub.Appraise(self.answer(challenge, **changes), timeout=CALL_S)
        return answer

    def answer(self, challenge: verifier_pb2.ChallengeResponse, **changes: Any) -> verifier_pb2.AppraiseRequest:
        """What is sent for a challenge."""
        return verifier_pb2.AppraiseRequest(
            challenge_id=challenge.challenge_id,
            evidence=self.evidence(challenge.nonce, **changes),
            tls_spki=self.spki,
            endpoint="127.0.0.1:9443",
        )

    def identity(self, certificate_chain: bytes) -> TlsIdentity:
        """Who the worker is, once it has a certificate."""
        return TlsIdentity.held(certificate_chain, key_pem(self.tls), self.pki.roots_pem)

    async def released(
        self, peer: Peer, token: str, model: str, *, version: int = 0, nonce: bytes = b"", **changes: Any
    ) -> provisioner_pb2.ReleaseKeyResponse:
        """Nonce, proof, key."""
        stub: Any = peer.stub(ProvisionerStub)
        if not nonce:
            challenge = await stub.ChallengeRelease(provisioner_pb2.ChallengeReleaseRequest(), timeout=CALL_S)
            nonce = challenge.nonce
        fields: dict[str, Any] = {
            "model_name": model,
            "model_version": version,
            "attestation_result": token,
            "nonce": nonce,
            "proof": self.receipt.sign(proof_message(nonce, token, model, version)),
        }
        request = provisioner_pb2.ReleaseKeyRequest(**{**fields, **changes})
        answer: provisioner_pb2.ReleaseKeyResponse = await stub.ReleaseKey(request, timeout=CALL_S)
        return answer
