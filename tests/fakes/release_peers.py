"""A verifier and a provisioner as a worker meets them, without a wire; wholly good until told otherwise."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import ear
from cloister.api.v1 import provisioner_pb2 as release_pb
from cloister.api.v1 import verifier_pb2 as pb
from cloister.ear import KeySet, SigningKey
from cloister.evidence import binding
from cloister.seal.grant import grant_info
from cloister.seal.hpke import KeyPair, seal
from cloister.seal.manifest import ModelManifest, sign
from cloister.worker.attester import Attester
from cloister.worker.clock import MeshClock
from cloister.worker.keys import WorkerKeys
from cloister.worker.release import KeyRelease
from cloister.worker.verifier_keys import VerifierKeys
from fakes.results import CLUSTER, NOW, VERIFIER, Clock, good_result

CONFIG = b"c" * 32


class Asked:
    """What a `Peer` is to who calls it: its stub."""

    def __init__(self, stub: object) -> None:
        self._stub = stub

    def stub(self, _stub_class: object) -> Any:
        return self._stub


@dataclass
class Verifying:
    """Believes everybody.

    Attributes:
        key: Signs the results.
        now: Its time.
        changes: Made to each result.
    """

    key: SigningKey = field(default_factory=SigningKey.generate)
    now: datetime = NOW
    changes: dict[str, Any] = field(default_factory=dict)

    async def Challenge(self, request, timeout):  # noqa: ASYNC109  # as a stub has it
        self.purpose = request.purpose
        return pb.ChallengeResponse(challenge_id=bytes(16), nonce=secrets.token_bytes(32))

    async def Appraise(self, request, timeout):  # noqa: ASYNC109
        claims = binding.decode(request.evidence.claims)
        mesh = self.purpose == pb.PURPOSE_MESH
        fields = {
            "audience": "mesh" if mesh else "provisioner",
            "ear_id": secrets.token_hex(8),
            "issued_at": self.now,
            "expires_at": self.now + timedelta(hours=1 if mesh else 1 / 12),
            "nonce": claims.nonce,
            "spiffe_id": claims.spiffe_id,
            "instance": claims.instance,
            "tls_spki_sha256": claims.tls_spki_sha256,
            "receipt_key": claims.receipt_key,
            "hpke_suite": claims.hpke_suite,
            "hpke_public": claims.hpke_public,
            "config_digest": claims.config_digest,
        }
        self.result = good_result(**(fields | self.changes))
        token = ear.issue(self.result, self.key)
        return pb.AppraiseResponse(attestation_result=token, certificate_chain=b"pem")


@dataclass
class Provisioning:
    """Releases version 2 of any model.

    Attributes:
        before_answer: Called while the worker waits for the key.
        epochs: Of each grant, as they travel.
        lease_s: Of each grant; also what an honest provisioner would never grant.
    """

    verifier: Verifying
    keys: WorkerKeys
    owner: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    lease_s: int = 600
    epochs: list[release_pb.EpochKey] = field(default_factory=list)
    before_answer: Callable[[], None] = lambda: None

    async def ChallengeRelease(self, request, timeout):  # noqa: ASYNC109
        return release_pb.ChallengeReleaseResponse(nonce=bytes(32))

    async def ReleaseKey(self, request, timeout):  # noqa: ASYNC109
        self.before_answer()
        manifest = ModelManifest(
            name=request.model_name,
            version=2,
            digest=b"d" * 32,
            size_bytes=10,
            created_at=NOW,
            files=(("model.xml", 5),),
        )
        signed = sign(manifest, self.owner)
        grant = release_pb.Grant(
            model_key=bytes(32),
            model_name=manifest.name,
            model_version=2,
            model_digest=manifest.digest,
            lease_s=self.lease_s,
            policy_digest=bytes(32),
            epochs=self.epochs,
        )
        result = self.verifier.result
        info = grant_info(CLUSTER, self.keys.instance, manifest.digest, 2, "lease", self.verifier.result.ear_id)
        return release_pb.ReleaseKeyResponse(
            manifest=release_pb.SignedManifest(
                manifest=signed.manifest, signature=signed.signature, public_key=signed.public_key
            ),
            lease_id="lease",
            sealed_grant=seal(result.hpke_suite, result.hpke_public, grant.SerializeToString(), info),
        )


class Quoting:
    """Quotes whatever it is asked to."""

    async def quote(self, report_data: bytes) -> bytes:
        return report_data


class ReleaseRig:
    """A worker's attester, clock and key release, and those whom they ask."""

    def __init__(self) -> None:
        self.keys = WorkerKeys.fresh()
        self.hpke = KeyPair.generate("x25519")
        self.counter = Clock()
        self.clock = MeshClock(self.counter)
        self.verifier = Verifying()
        self.provisioner = Provisioning(self.verifier, self.keys)
        self.attester = Attester(
            self.keys,
            Quoting(),
            cluster=CLUSTER,
            audience=VERIFIER,
            verifier_keys=VerifierKeys(b"", keys_of(self.verifier.key)),
            config_digest=CONFIG,
            endpoint="127.0.0.1:1",
        )
        self.releases = KeyRelease(
            self.attester,
            self.clock,
            hpke_suite="x25519",
            owners=[self.provisioner.owner.public_key().public_bytes_raw()],
            verifier=self.asked(self.verifier),
            provisioner=self.asked(self.provisioner),
        )

    @staticmethod
    def asked(stub: object) -> Any:
        return Asked(stub)


def keys_of(*keys: SigningKey) -> KeySet:
    """The public halves."""
    return KeySet.from_jwks(json.dumps({"keys": [key.jwk() for key in keys]}))
