"""Challenge, evidence, appraisal: how a worker gets an Attestation Result (design section 2, RFC 9334).

Only this module composes claims; nobody can have the enclave quote anything else (attacks I12). Our own result is
checked as any other: a certificate of the mesh makes nobody the verifier. It must be signed by a key that our measured
settings pin, say what it was asked for, and be about the very claims we sent. Its time is for the clock to judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from cloister import ear
from cloister.api.v1.evidence_pb2 import Evidence
from cloister.api.v1.verifier_pb2 import (
    PURPOSE_KEY_RELEASE,
    PURPOSE_MESH,
    AppraiseRequest,
    AppraiseResponse,
    ChallengeRequest,
    Purpose,
)
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.ear import AttestationResult
from cloister.errors import EvidenceRejected
from cloister.evidence.binding import Claims, encode, report_data
from cloister.evidence.quoter import Quoter
from cloister.kit.verifier_keys import fetch_key_set
from cloister.rpc.channel import Peer
from cloister.rpc.spiffe import WORKER, spiffe_id
from cloister.seal.hpke import KeyPair
from cloister.seal.session_keys import SEAL_VERSION
from cloister.worker.keys import WorkerKeys
from cloister.worker.verifier_keys import VerifierKeys

CALL_S: Final = 30.0


class _Terms(NamedTuple):
    """What a result for one purpose must say of itself."""

    audience: str
    max_life: timedelta


_TERMS: Final = {
    PURPOSE_MESH: _Terms("mesh", timedelta(hours=1)),
    PURPOSE_KEY_RELEASE: _Terms("provisioner", timedelta(minutes=5)),
}


@dataclass(frozen=True, slots=True)
class OwnResult:
    """An Attestation Result about us, signed by the verifier.

    Attributes:
        token: As it is handed on.
        ear_id: `jti`.
        issued_at: The verifier's time, as is `expires_at`.
        certificate: PEM chain, leaf first; empty unless the purpose was membership.
    """

    token: str
    ear_id: str
    issued_at: datetime
    expires_at: datetime
    certificate: bytes


class Attester:
    """Speaks for this enclave.

    Args:
        keys: What evidence is about, beside the HPKE key that it is made for.
        quoter: Makes the quotes.
        cluster: Trust domain.
        audience: SPIFFE id of the verifier that the evidence is for.
        verifier_keys: Keys that our results are signed with.
        config_digest: SHA-256 of the configuration we run under.
        endpoint: Where gateways reach us; a hint.
    """

    def __init__(
        self,
        keys: WorkerKeys,
        quoter: Quoter,
        *,
        cluster: str,
        audience: str,
        verifier_keys: VerifierKeys,
        config_digest: bytes,
        endpoint: str,
    ) -> None:
        self.keys = keys
        self.cluster = cluster
        self._quoter = quoter
        self._audience = audience
        self._verifier_keys = verifier_keys
        self._config_digest = config_digest
        self._endpoint = endpoint

    async def appraised(self, verifier: Peer, purpose: Purpose, hpke: KeyPair) -> OwnResult:
        """Have ourselves appraised, once.

        Args:
            verifier: Who appraises.
            purpose: What the result is for.
            hpke: The key pair whose public half the result will name.

        Raises:
            NotReady: This platform makes no quotes.
            EvidenceRejected: The verifier does not believe us, or what came is no result of its about us.
            CloisterError: The verifier could not be asked.
        """
        # The generated stub is typed for the synchronous API; called on an aio channel it returns awaitables.
        stub: Any = verifier.stub(VerifierStub)
        challenge = await stub.Challenge(
            ChallengeRequest(purpose=purpose, tls_spki_sha256=self.keys.tls_spki_sha256), timeout=CALL_S
        )
        claims = self._claims(challenge.nonce, hpke)
        raw_claims = encode(claims)
        quote = await self._quoter.quote(report_data(raw_claims))
        answer = await stub.Appraise(
            AppraiseRequest(
                challenge_id=challenge.challenge_id,
                evidence=Evidence(claims=raw_claims, quote=quote),
                tls_spki=self.keys.tls_spki,
                endpoint=self._endpoint,
            ),
            timeout=CALL_S,
        )
        await self._verifier_keys.look_for(answer.attestation_result, lambda: fetch_key_set(verifier))
        return self._checked(answer, purpose, claims)

    def _claims(self, nonce: bytes, hpke: KeyPair) -> Claims:
        return Claims(
            tls_spki_sha256=self.keys.tls_spki_sha256,
            nonce=nonce,
            hpke_suite=hpke.suite,
            hpke_public=hpke.public,
            receipt_key=self.keys.receipt_public,
            seal_version=SEAL_VERSION,
            role=WORKER,
            spiffe_id=str(spiffe_id(self.cluster, WORKER, self.keys.instance)),
            cluster=self.cluster,
            audience=self._audience,
            config_digest=self._config_digest,
            instance=self.keys.instance,
        )

    def _checked(self, answer: AppraiseResponse, purpose: Purpose, claims: Claims) -> OwnResult:
        terms = _TERMS[purpose]
        result = ear.check(
            answer.attestation_result,
            self._verifier_keys.keys,
            issuer=self._audience,
            audience=terms.audience,
            now=None,  # `MeshClock.hear` compares it with all the time we know
            max_life=terms.max_life,
        )
        if _attested(result) != _claimed(claims):
            raise EvidenceRejected("the Attestation Result is not about the claims we made", reason="result.other")
        return OwnResult(
            token=answer.attestation_result,
            ear_id=result.ear_id,
            issued_at=result.issued_at,
            expires_at=result.expires_at,
            certificate=answer.certificate_chain,
        )


def _claimed(of: Claims) -> tuple[object, ...]:
    keys = (of.tls_spki_sha256, of.receipt_key, of.hpke_suite, of.hpke_public)
    return (of.nonce, of.role, of.spiffe_id, of.cluster, of.instance, of.config_digest, *keys)


def _attested(of: AttestationResult) -> tuple[object, ...]:
    keys = (of.tls_spki_sha256, of.receipt_key, of.hpke_suite, of.hpke_public)
    return (of.nonce, of.role, of.spiffe_id, of.cluster, of.instance, of.config_digest, *keys)
