"""A provisioner's inside with one owner, one model and one worker, all of it good until a test breaks one thing."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import ear
from cloister.ear import SigningKey
from cloister.kit.host_clock import HostClock
from cloister.kit.metrics import Metrics
from cloister.provisioner.ledger.database import NAME, Database
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.opening import opened
from cloister.provisioner.models.epoch_store import EpochStore
from cloister.provisioner.models.epoch_terms import EpochTerms
from cloister.provisioner.models.epochs import Epochs
from cloister.provisioner.models.registry import Registry
from cloister.provisioner.models.store import ModelStore
from cloister.provisioner.releases.nonces import Nonces
from cloister.provisioner.releases.rates import Rates
from cloister.provisioner.releases.release import Released, Releaser, ReleaseRequest
from cloister.provisioner.releases.revoked import Standing, Unfollowed
from cloister.provisioner.releases.used_results import UsedResults
from cloister.provisioner.releases.verifier_keys import PinnedKeys
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.root_key import RootKeyVault
from cloister.provisioner.vaults.threads import VaultThreads
from cloister.rpc.identity import PeerIdentity
from cloister.seal.grant import ModelGrant, grant_info, open_grant, proof_message
from cloister.seal.hpke import X25519, KeyPair
from cloister.seal.keys import Secret
from cloister.seal.manifest import ModelManifest, Signed, sign, sign_policy
from fakes.results import CLUSTER, INSTANCE, MODEL, NOW, VERIFIER, WORKER, Clock, good_policy, good_result

OWNER = f"spiffe://{CLUSTER}/owner/alice"
MODEL_KEY = Secret(b"the key of a model, thirty-two b")
DIGEST = hashlib.sha256(b"the sealed model").digest()


def signed_manifest(key: Ed25519PrivateKey, **changes: Any) -> Signed:
    """A manifest of the model, signed."""
    manifest = ModelManifest(
        name=MODEL, version=2, digest=DIGEST, size_bytes=10, created_at=NOW, files=(("model.xml", 5),)
    )
    return sign(replace(manifest, **changes), key)


@dataclass
class WorkerKeys:
    """The private keys of one start of a worker."""

    receipt: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    hpke: KeyPair = field(default_factory=lambda: KeyPair.generate(X25519))
    tls_spki_sha256: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def peer(self, **changes: Any) -> PeerIdentity:
        """The worker as TLS sees it."""
        peer = PeerIdentity(
            spiffe_id=WORKER,
            cluster=CLUSTER,
            role="worker",
            name=INSTANCE,
            spki_sha256=self.tls_spki_sha256,
            expires_at=0.0,
        )
        return replace(peer, **changes)


@dataclass
class ReleaseDesk:
    """Everything a release needs, and the steps that a worker takes.

    The keys of `verifier` and `next_verifier` are pinned, the former's is published.
    """

    folder: Path
    ledger: Ledger
    clock: Clock = field(default_factory=Clock)
    metrics: Metrics = field(default_factory=Metrics)
    now: datetime = NOW
    worker: WorkerKeys = field(default_factory=WorkerKeys)
    verifier: SigningKey = field(default_factory=SigningKey.generate)
    next_verifier: SigningKey = field(default_factory=SigningKey.generate)
    owner: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    terms: EpochTerms = field(default_factory=lambda: EpochTerms(suite=X25519))
    keyring: Keyring = field(default_factory=lambda: keyring())
    threads: VaultThreads = field(default_factory=lambda: VaultThreads(ThreadPoolExecutor(6), most=256))

    def __post_init__(self) -> None:
        self.store = ModelStore(self.ledger)
        self.keys_path = self.folder / "jwks.json"
        self.publish_keys(self.verifier)
        self.nonces = Nonces(ttl_s=60, monotonic=self.clock)
        self.epochs = self.new_epochs()
        self.registry = Registry(cluster=CLUSTER, store=self.store, keyring=self.keyring, ledger=self.ledger)
        self.releaser = self.new_releaser()

    def new_epochs(self, *, keyring: Any = None, **changes: Any) -> Epochs:
        """Epochs over the same store, as after a restart, on these terms."""
        return Epochs(
            cluster=CLUSTER,
            terms=replace(self.terms, **changes),
            store=EpochStore(self.ledger),
            keyring=keyring or self.keyring,
        )

    def new_releaser(
        self,
        *,
        per_minute: int = 100_000,
        started_at: datetime = NOW,
        keyring: Any = None,
        standing: Standing | None = None,
    ) -> Releaser:
        """A releaser over the same store, as after a restart."""
        return Releaser(
            cluster=CLUSTER,
            verifier_id=VERIFIER,
            verifier_keys=PinnedKeys(self.keys_path, [self.verifier.kid, self.next_verifier.kid], look_every_s=0.0),
            standing=standing or Unfollowed(),
            look_for_keys=self.look_for_keys,
            epochs=self.new_epochs(keyring=keyring) if keyring else self.epochs,
            keyring=keyring or self.keyring,
            ledger=self.ledger,
            metrics=self.metrics,
            nonces=self.nonces,
            used=UsedResults(started_at=started_at, last_release_at=None),
            per_instance=Rates(per_minute=per_minute, monotonic=self.clock),
            per_platform=Rates(per_minute=per_minute * 10, monotonic=self.clock),
            clock=HostClock(lambda: self.now),
            threads=self.threads,
        )

    async def look_for_keys(self, token: str) -> None:
        """Keys are pinned one by one here: there is nobody to ask."""

    def publish_keys(self, *keys: SigningKey) -> None:
        """Write the verifier's key set."""
        staged = self.folder / "jwks.new"
        staged.write_text(json.dumps({"keys": [key.jwk() for key in keys]}))
        staged.rename(self.keys_path)

    def register(self, **changes: Any) -> int:
        """Register the model as its owner."""
        return self.registry.register(OWNER, *signed_manifest(self.owner, **changes), MODEL_KEY)

    def allow(self, **changes: Any) -> int:
        """Set the policy as the owner."""
        raw = good_policy(**changes).SerializeToString()
        return self.registry.set_policy(OWNER, raw, sign_policy(raw, self.owner))

    def token(self, *, key: SigningKey | None = None, **changes: Any) -> str:
        """A fresh Attestation Result for the worker."""
        fields: dict[str, Any] = {
            "ear_id": secrets.token_hex(8),
            "issued_at": self.now,
            "expires_at": self.now + timedelta(minutes=5),
            "tls_spki_sha256": self.worker.tls_spki_sha256,
            "receipt_key": self.worker.receipt.public_key().public_bytes_raw(),
            "hpke_suite": self.worker.hpke.suite,
            "hpke_public": self.worker.hpke.public,
        }
        return ear.issue(good_result(**{**fields, **changes}), key or self.verifier)

    def nonce(self) -> bytes:
        """A nonce for the worker."""
        return self.nonces.issue(peer=WORKER, tls_spki_sha256=self.worker.tls_spki_sha256)

    def request(
        self,
        *,
        token: str | None = None,
        nonce: bytes | None = None,
        model: str = MODEL,
        version: int = 0,
        signer: Ed25519PrivateKey | None = None,
    ) -> ReleaseRequest:
        """What a good worker sends."""
        token = self.token() if token is None else token
        nonce = self.nonce() if nonce is None else nonce
        proof = (signer or self.worker.receipt).sign(proof_message(nonce, token, model, version))
        return ReleaseRequest(
            model_name=model, model_version=version, attestation_result=token, nonce=nonce, proof=proof
        )

    def opened(self, released: Released, ear_id: str, *, pair: KeyPair | None = None) -> ModelGrant:
        """The grant, opened as the worker does."""
        version = released.model.version
        info = grant_info(CLUSTER, INSTANCE, DIGEST, version, released.lease_id, ear_id)
        return open_grant(
            released.sealed_grant,
            pair or self.worker.hpke,
            info,
            model_name=MODEL,
            model_version=version,
            model_digest=DIGEST,
        )

    def entries(self) -> list[dict[str, Any]]:
        """All records, read."""
        return [json.loads(entry.record) for entry in self.ledger.log.records()]


def keyring() -> Keyring:
    """The one that every desk's keys are wrapped by."""
    return Keyring([RootKeyVault(Secret(b"r" * 32))])


@contextmanager
def open_ledger(folder: Path) -> Iterator[Ledger]:
    """The ledger in a folder, as at a start."""
    with Database.opened(folder / NAME) as database, opened(database, keyring(), cluster=CLUSTER) as ledger:
        yield ledger


@contextmanager
def release_desk(folder: Path) -> Iterator[ReleaseDesk]:
    """A desk with the model registered and allowed."""
    with open_ledger(folder) as ledger:
        desk = ReleaseDesk(folder, ledger)
        desk.register()
        desk.allow()
        yield desk
