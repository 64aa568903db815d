"""Challenge, evidence, appraisal: how a worker gets an Attestation Result (design section 2, RFC 9334).

Only this module composes claims; nobody can have the enclave quote anything else (attacks I12). Our own result is read
here without checking its signature: it came from the verifier over mutual TLS, and whoever relies on it checks it.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cloister.api.v1.evidence_pb2 import Evidence
from cloister.api.v1.verifier_pb2 import AppraiseRequest, AppraiseResponse, ChallengeRequest, Purpose
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.errors import InternalError
from cloister.evidence.binding import Claims, encode, report_data
from cloister.evidence.quoter import Quoter
from cloister.rpc.channel import Peer
from cloister.rpc.spiffe import WORKER, spiffe_id
from cloister.worker.keys import WorkerKeys

CALL_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class OwnResult:
    """An Attestation Result about us.

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
        keys: What evidence is about.
        quoter: Makes the quotes.
        cluster: Trust domain.
        audience: SPIFFE id of the verifier that the evidence is for.
        config_digest: SHA-256 of the configuration we run under.
        endpoint: Where gateways reach us; a hint.
    """

    def __init__(
        self, keys: WorkerKeys, quoter: Quoter, *, cluster: str, audience: str, config_digest: bytes, endpoint: str
    ) -> None:
        self.keys = keys
        self.cluster = cluster
        self._quoter = quoter
        self._audience = audience
        self._config_digest = config_digest
        self._endpoint = endpoint

    async def appraised(self, verifier: Peer, purpose: Purpose) -> OwnResult:
        """Have ourselves appraised, once.

        Raises:
            NotReady: This platform makes no quotes.
            EvidenceRejected: The verifier does not believe us.
            CloisterError: The verifier could not be asked.
        """
        # The generated stub is typed for the synchronous API; called on an aio channel it returns awaitables.
        stub: Any = verifier.stub(VerifierStub)
        challenge = await stub.Challenge(
            ChallengeRequest(purpose=purpose, tls_spki_sha256=self.keys.tls_spki_sha256), timeout=CALL_S
        )
        claims = encode(self._claims(challenge.nonce))
        quote = await self._quoter.quote(report_data(claims))
        answer = await stub.Appraise(
            AppraiseRequest(
                challenge_id=challenge.challenge_id,
                evidence=Evidence(claims=claims, quote=quote),
                tls_spki=self.keys.tls_spki,
                endpoint=self._endpoint,
            ),
            timeout=CALL_S,
        )
        return _own_result(answer)

    def _claims(self, nonce: bytes) -> Claims:
        return Claims(
            tls_spki_sha256=self.keys.tls_spki_sha256,
            nonce=nonce,
            hpke_suite=self.keys.hpke.suite,
            hpke_public=self.keys.hpke.public,
            receipt_key=self.keys.receipt_public,
            role=WORKER,
            spiffe_id=str(spiffe_id(self.cluster, WORKER, self.keys.instance)),
            cluster=self.cluster,
            audience=self._audience,
            config_digest=self._config_digest,
            instance=self.keys.instance,
        )


def _own_result(answer: AppraiseResponse) -> OwnResult:
    payload = answer.attestation_result.split(".")[1:2]
    try:
        members = json.loads(urlsafe_b64decode(payload[0] + "=" * (-len(payload[0]) % 4)))
        return OwnResult(
            token=answer.attestation_result,
            ear_id=str(members["jti"]),
            issued_at=datetime.fromtimestamp(int(members["iat"]), UTC),
            expires_at=datetime.fromtimestamp(int(members["exp"]), UTC),
            certificate=answer.certificate_chain,
        )
    except (IndexError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise InternalError("the verifier's answer holds no Attestation Result") from error
