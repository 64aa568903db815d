"""A model key from the provisioner: fresh evidence, proof of possession, grant (design section 4).

The evidence is for a key pair that is made for this one release and dropped with it, so a grant that somebody recorded
opens no more, whatever is taken from this enclave later. The grant opens with that key only, and only for the cluster,
instance, model, version, lease and Attestation Result that it was sealed for.

The manifest must be signed by an owner whom our measured settings name: a provisioner, or whoever takes its place,
cannot have us serve a model of its own. Which of those owners may publish under which name is the provisioner's to
know.

A lease is a length of time on the worker's counter, which under Gramine is the host's: a host that slows it makes
leases longer (see `clock`), and then only renewal bounds them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from cloister.api.v1.model_pb2 import SignedManifest
from cloister.api.v1.provisioner_pb2 import ChallengeReleaseRequest, ReleaseKeyRequest, ReleaseKeyResponse
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.api.v1.verifier_pb2 import PURPOSE_KEY_RELEASE
from cloister.errors import KeyRefused, SealBroken
from cloister.rpc.channel import Peer
from cloister.seal.grant import ModelGrant, grant_info, open_grant, proof_message
from cloister.seal.hpke import KeyPair
from cloister.seal.manifest import ModelManifest, verify
from cloister.worker.attester import Attester, OwnResult
from cloister.worker.clock import MeshClock
from cloister.worker.job_epochs import JobEpochs
from cloister.worker.settings import WantedModel

CALL_S: Final = 30.0
MAX_LEASE_S: Final = 86_400
"""No lease lasts longer here, whatever a grant says."""


@dataclass(frozen=True, slots=True)
class Release:
    """A key and what it opens.

    Attributes:
        lease_id: Of the lease, as the provisioner named it; the grant is bound to it.
        signed: The manifest as its owner signed it.
        ends_at_s: When the lease ends, on the worker's counter: so long after we began to ask, so that a slow answer
            makes it shorter and never longer.
        life_s: How long it was when we began to ask.
        job_epochs: The keys that jobs for the model are sealed to.
    """

    lease_id: str
    grant: ModelGrant
    manifest: ModelManifest
    signed: SignedManifest
    ends_at_s: float
    life_s: float
    job_epochs: JobEpochs = field(default_factory=JobEpochs)


class KeyRelease:
    """Asks for model keys.

    Args:
        attester: Speaks for this enclave.
        clock: Hears the verifier's time, and counts leases.
        hpke_suite: By which grants are sealed to us.
        owners: Ed25519 public keys of those whose models may be served.
        verifier: Called with the worker's own identity, as is `provisioner`.
        provisioner: Holds the keys.
    """

    def __init__(
        self,
        attester: Attester,
        clock: MeshClock,
        *,
        hpke_suite: str,
        owners: Collection[bytes],
        verifier: Peer,
        provisioner: Peer,
    ) -> None:
        self._attester = attester
        self._clock = clock
        self._hpke_suite = hpke_suite
        self._owners = frozenset(owners)
        self._verifier = verifier
        self._provisioner = provisioner

    async def release(self, wanted: WantedModel) -> Release:
        """Get the key of a model, or the same key for longer.

        Raises:
            KeyRefused: We may not have it, or it is of an owner whom our settings do not name.
            EvidenceRejected: We are not believed.
            SealBroken: The answer is not what the provisioner sealed for us.
            CloisterError: Somebody could not be asked.
            ClockJumped: The verifier's time and the counter disagree.
        """
        hpke = KeyPair.generate(self._hpke_suite)
        result = await self._attester.appraised(self._verifier, PURPOSE_KEY_RELEASE, hpke)
        self._clock.hear(result.issued_at)
        # The generated stub is typed for the synchronous API; called on an aio channel it returns awaitables.
        stub: Any = self._provisioner.stub(ProvisionerStub)
        asked_at_s = self._clock.counter_s()
        challenge = await stub.ChallengeRelease(ChallengeReleaseRequest(), timeout=CALL_S)
        message = proof_message(challenge.nonce, result.token, wanted.name, wanted.version)
        answer = await stub.ReleaseKey(
            ReleaseKeyRequest(
                model_name=wanted.name,
                model_version=wanted.version,
                attestation_result=result.token,
                nonce=challenge.nonce,
                proof=self._attester.keys.receipt.sign(message),
            ),
            timeout=CALL_S,
        )
        manifest, grant = self._opened(answer, wanted, result, hpke)
        life_s = min(grant.lease_s, MAX_LEASE_S)
        epochs = await asyncio.to_thread(
            JobEpochs.of, grant.epochs, grant.signer_sets
        )  # each pair takes half a millisecond
        return Release(answer.lease_id, grant, manifest, answer.manifest, asked_at_s + life_s, life_s, epochs)

    def _opened(
        self, answer: ReleaseKeyResponse, wanted: WantedModel, result: OwnResult, hpke: KeyPair
    ) -> tuple[ModelManifest, ModelGrant]:
        signed, instance = answer.manifest, self._attester.keys.instance
        if signed.public_key not in self._owners:
            raise KeyRefused("the model is of an owner whom the settings do not name", reason="owner.other")
        manifest = verify(signed.manifest, signed.signature, signed.public_key)
        if manifest.name != wanted.name or wanted.version not in (0, manifest.version):
            raise SealBroken
        info = grant_info(
            self._attester.cluster, instance, manifest.digest, manifest.version, answer.lease_id, result.ear_id
        )
        grant = open_grant(
            answer.sealed_grant,
            hpke,
            info,
            model_name=manifest.name,
            model_version=manifest.version,
            model_digest=manifest.digest,
        )
        return manifest, grant
