"""The worker's place in the mesh: evidence for a certificate, renewed in time, given up at the end.

Joining speaks with the enrol identity, which is good for nothing else; all later calls with the certificate that was
earned. A renewed certificate is for the same key and goes into the identity in use, so no connection is dropped; the
evidence is for a new HPKE key when it is time for one (see `epochs`).
Evidence that is no longer believed ends the worker, and so does a membership that could not be renewed before its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from cloister.api.v1.verifier_pb2 import PURPOSE_MESH, LeaveRequest
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.errors import ChallengeExpired, CloisterError, EvidenceRejected, NotReady
from cloister.kit.log import get_logger
from cloister.rpc.certificates import key_pem
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.status import reason_of
from cloister.worker.attester import Attester, OwnResult
from cloister.worker.backoff import Backoff, renewal_s
from cloister.worker.clock import MeshClock
from cloister.worker.epochs import KeyRotation

PATIENCE_S: Final = 60.0
LEAVE_S: Final = 5.0
_log = get_logger()


class Membership:
    """An attested worker's identity.

    Attributes:
        identity: TLS identity of this worker.
        result: The Attestation Result that is in force.
    """

    def __init__(
        self, attester: Attester, clock: MeshClock, rotation: KeyRotation, identity: TlsIdentity, result: OwnResult
    ) -> None:
        self.identity = identity
        self.result = result
        self._attester = attester
        self._clock = clock
        self._rotation = rotation
        self._due = asyncio.Event()

    @classmethod
    async def join(
        cls,
        attester: Attester,
        clock: MeshClock,
        rotation: KeyRotation,
        enrol: Peer,
        trust_roots: bytes,
        *,
        patience_s: float = PATIENCE_S,
    ) -> Membership:
        """Have ourselves appraised and become a member.

        Args:
            attester: Speaks for this enclave.
            clock: Learns the verifier's time.
            rotation: Has the HPKE keys.
            enrol: The verifier, called with the enrol identity.
            trust_roots: Whom to trust on the wire, in PEM.
            patience_s: How long to go on asking a verifier that cannot be reached.

        Raises:
            NotReady: This platform makes no quotes.
            EvidenceRejected: The verifier does not believe us.
            CloisterError: The verifier could not be asked for too long.
        """
        until_s, backoff = clock.counter_s() + patience_s, Backoff(0.2, 5.0)
        while True:
            asked_s, hpke = clock.counter_s(), rotation.offered()
            try:
                result = await attester.appraised(enrol, PURPOSE_MESH, hpke)
                break
            except (CloisterError, TimeoutError) as error:
                if not _passes(error) or clock.counter_s() >= until_s:
                    raise
                _log.warning("verifier.waited_for", reason=reason_of(error), error=error)
            await backoff.pause()
        clock.hear(result.issued_at)
        rotation.attested(hpke, result.ear_id, clock.lasts_s(result.expires_at))
        identity = TlsIdentity.held(result.certificate, key_pem(attester.keys.tls), trust_roots)
        attest_ms = round((clock.counter_s() - asked_s) * 1000, 1)
        _log.info("mesh.joined", instance=attester.keys.instance, until=result.expires_at, attest_ms=attest_ms)
        return cls(attester, clock, rotation, identity, result)

    async def renewing(self, verifier: Peer, renewed: Callable[[OwnResult], None] = lambda _: None) -> None:
        """Renew at two thirds of each life, or when told to, for as long as the worker runs.

        Args:
            verifier: Called with our own identity.
            renewed: Called with each new result.

        Raises:
            EvidenceRejected: We are no longer believed.
            ClockJumped: The verifier's time and the counter disagree.
            NotReady: The membership ended before it could be renewed.
        """
        backoff = Backoff()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(renewal_s(self._clock.lasts_s(self.result.expires_at))):
                    await self._due.wait()
            self._due.clear()
            while not await self._renewed(verifier):
                left_s = self._clock.lasts_s(self.result.expires_at)
                if left_s <= 0:
                    raise NotReady("the membership ended before it could be renewed", reason="membership.ended")
                await backoff.pause(left_s)
            backoff.reset()
            renewed(self.result)

    def renew_soon(self) -> None:
        """Renew now rather than at two thirds: what we have convinces nobody any more."""
        self._due.set()

    async def leave(self, verifier: Peer) -> None:
        """Say that we are going; if nobody hears it, the membership ends by itself."""
        stub: Any = verifier.stub(VerifierStub)
        try:
            await stub.Leave(LeaveRequest(), timeout=LEAVE_S)
        except (CloisterError, TimeoutError) as error:
            _log.warning("mesh.not_left", error=error)
        else:
            _log.info("mesh.left", instance=self._attester.keys.instance)

    async def _renewed(self, verifier: Peer) -> bool:
        hpke = self._rotation.offered()
        try:
            result = await self._attester.appraised(verifier, PURPOSE_MESH, hpke)
        except EvidenceRejected:
            raise
        except (CloisterError, TimeoutError) as error:
            _log.warning("membership.not_renewed", reason=reason_of(error), error=error)
            return False
        self._clock.hear(result.issued_at)
        self._rotation.attested(hpke, result.ear_id, self._clock.lasts_s(result.expires_at))
        self.identity.replace(result.certificate, key_pem(self._attester.keys.tls))
        self.result = result
        _log.info("membership.renewed", until=result.expires_at)
        return True


def _passes(error: BaseException) -> bool:
    """Whether asking again may help: the peer is not there, is busy, or the nonce grew old on the way."""
    if isinstance(error, CloisterError):
        return error.retryable or isinstance(error, ChallengeExpired)
    return isinstance(error, TimeoutError)
