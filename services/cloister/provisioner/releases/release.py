"""The release of a model key: Attestation Result and proof of possession in, a grant sealed to the attested key out.

Nothing is released on a TLS identity alone, or on a result alone: the result must be for the caller's own TLS key, and
the caller must sign with the receipt key in it over a nonce of ours. No record, no release. A refusal is recorded with
its reason, and with every rule that objected; the worker hears one sentence, the same for a model that it may not have
and one that does not exist, and after the same work.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cloister import ear
from cloister.ear import AttestationResult
from cloister.errors import (
    ChallengeExpired,
    CloisterError,
    EvidenceRejected,
    InvalidRequest,
    KeyRefused,
    NotReady,
    Overloaded,
    SealBroken,
)
from cloister.kit.host_clock import HostClock
from cloister.kit.metrics import Metrics
from cloister.provisioner.leasing.leases import give
from cloister.provisioner.leasing.watch import GivenLease
from cloister.provisioner.leasing.withdrawals import changed_at
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.look import altered
from cloister.provisioner.ledger.marks import RELEASED
from cloister.provisioner.models.epochs import Epochs
from cloister.provisioner.models.rules import AUDIENCE, decide
from cloister.provisioner.models.stored import StoredModel, generation_held
from cloister.provisioner.releases.lines import result_facts
from cloister.provisioner.releases.nonces import Nonces
from cloister.provisioner.releases.offers import Offers
from cloister.provisioner.releases.quotas import Quotas
from cloister.provisioner.releases.rates import Rates
from cloister.provisioner.releases.refusals import Refusals
from cloister.provisioner.releases.revoked import Standing
from cloister.provisioner.releases.used_results import UsedResults
from cloister.provisioner.releases.verifier_keys import VerifierKeys
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.threads import VaultThreads
from cloister.provisioner.vaults.vault import Wrapped
from cloister.rpc.identity import PeerIdentity
from cloister.seal.grant import ModelGrant, grant_info, proof_message, seal_grant
from cloister.seal.keys import ModelKey
from cloister.seal.release_policy import check_meant_for

MAX_RESULT_LIFE = timedelta(minutes=5)
REFUSED = "the request was refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """What a worker asks for; `model_version` 0 stands for the newest."""

    model_name: str
    model_version: int
    attestation_result: str = field(repr=False)
    nonce: bytes = field(repr=False)
    proof: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The sealed grant, and the manifest of the model that it is for."""

    model: StoredModel
    lease_id: str
    sealed_grant: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Granted:
    """A release that was decided on, and is not on record yet."""

    result: AttestationResult
    model: StoredModel
    grant: ModelGrant
    lease_id: str
    sealed_grant: bytes = field(repr=False)
    now: datetime
    changed_at: int


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What spoke against one, and the result as far as it was believed."""

    error: CloisterError
    result: AttestationResult | None

    @property
    def told(self) -> CloisterError:
        """What the worker hears of it."""
        return self.error if isinstance(self.error, (Overloaded, NotReady)) else KeyRefused(REFUSED)


class Releaser:
    """Releases keys of one cluster's models to its workers.

    Args:
        verifier_id: SPIFFE id of the one verifier whose results are believed.
        per_instance: How often one worker may ask.
        per_platform: How often all workers on one platform may ask.
        standing: Whether a result counts still.
        look_for_keys: Gets a token by a key that may be new.
        epochs: Has what jobs are sealed to.
        clock: Tells the time that results are held against.
        threads: Decide, and may wait for the vault.
    """

    def __init__(
        self,
        *,
        cluster: str,
        verifier_id: str,
        verifier_keys: VerifierKeys,
        standing: Standing,
        look_for_keys: Callable[[str], Awaitable[None]],
        epochs: Epochs,
        keyring: Keyring,
        ledger: Ledger,
        metrics: Metrics,
        nonces: Nonces,
        used: UsedResults,
        per_instance: Rates,
        per_platform: Rates,
        clock: HostClock,
        threads: VaultThreads,
    ) -> None:
        self._cluster = cluster
        self._verifier_id = verifier_id
        self._verifier_keys = verifier_keys
        self._standing = standing
        self._look_for_keys = look_for_keys
        self._epochs = epochs
        self._keyring = keyring
        self._ledger = ledger
        self._metrics = metrics
        self._nonces = nonces
        self._used = used
        self._per_instance = per_instance
        self._per_platform = per_platform
        self._clock = clock
        self._threads = threads
        self._refusals = Refusals(ledger, metrics)
        self._quotas = Quotas(RELEASED, ledger.log.newest)
        self._offers = Offers(cluster, ledger)

    async def release(self, request: ReleaseRequest, peer: PeerIdentity) -> Released:
        """Release a key to `peer`, or refuse; either way once that is on record.

        Raises:
            ChallengeExpired: The nonce was used, is too old, or another's.
            KeyRefused: Anything else that speaks against it; always the same words.
            Overloaded: This worker or its platform asks too often, or the model was released as often as its owner
                allows in an hour (`rate.exceeded`).
            Unavailable: Ledger or vault do not work; nothing was released.
        """
        try:
            self._nonces.consume(request.nonce, peer=peer.spiffe_id, tls_spki_sha256=peer.spki_sha256)
        except ChallengeExpired as expired:
            await self._record_refusal(expired, request, peer, None)
            raise
        await self._look_for_keys(request.attestation_result)
        try:
            with self._ledger.coming():
                decided = await self._threads.run(self._decided, request, peer)
        except Overloaded as busy:
            await self._record_refusal(busy, request, peer, None)
            raise
        if isinstance(decided, _Refusal):
            await self._record_refusal(decided.error, request, peer, decided.result)
            raise decided.told
        try:
            await self._record_release(decided)
        except CloisterError as lost:
            self._quotas.give_back(decided.model.name, decided.now)
            if isinstance(lost, NotReady):
                await self._record_refusal(lost, request, peer, decided.result)
            raise
        self._clock.vouched(decided.now)
        return Released(model=decided.model, lease_id=decided.lease_id, sealed_grant=decided.sealed_grant)

    def _decided(self, request: ReleaseRequest, peer: PeerIdentity) -> _Granted | _Refusal:
        result: AttestationResult | None = None
        try:
            now = self._clock.now()
            result = self._checked(request, now)  # 1 the verifier said so, to us, lately
            _same_party(result, peer)  # 2 of the key at the other end
            _possesses(result, request)  # 3 which holds the receipt key too
            self._standing.check(result)  # 4 nobody has revoked it since
            self._per_instance.take(result.instance)  # 5 and does not ask too often
            self._per_platform.take(result.ppid_sha256)
            self._used.use(result, now=now)  # 6 a result serves once
            return self._granted(request, result, now)  # 7 and the owner allows it
        except (Overloaded, NotReady, EvidenceRejected, KeyRefused, SealBroken, InvalidRequest) as refusal:
            return _Refusal(refusal, result)

    def _checked(self, request: ReleaseRequest, now: datetime) -> AttestationResult:
        return ear.check(
            request.attestation_result,
            self._verifier_keys.current(),
            issuer=self._verifier_id,
            audience=AUDIENCE,
            now=now,
            max_life=MAX_RESULT_LIFE,
        )

    def _granted(self, request: ReleaseRequest, result: AttestationResult, now: datetime) -> _Granted:
        offer = self._offers.find(request.model_name, request.model_version)
        model = offer.model
        described, policy = offer.as_signed()
        check_meant_for(policy, self._cluster)
        try:
            decide(result, policy, model_version=model.version, cluster=self._cluster)
        except KeyRefused as refusal:
            raise offer.missing or refusal from None
        lease_id = secrets.token_hex(16)
        grant = ModelGrant(
            model_key=self._unwrapped(model),
            model_name=described.name,
            model_version=described.version,
            model_digest=described.digest,
            allow_plain=policy.allow_plain,
            lease_s=policy.lease_s,
            policy_digest=policy.digest,
            epochs=self._epochs.released_to(result, model, policy, offer.policy, now),
            signer_sets=model.signer_sets,
        )
        info = grant_info(self._cluster, result.instance, described.digest, model.version, lease_id, result.ear_id)
        sealed = seal_grant(grant, suite=result.hpke_suite, public=result.hpke_public, info=info)
        self._quotas.take(model.name, policy.releases_per_hour, now)
        return _Granted(
            result=result,
            model=model,
            grant=grant,
            lease_id=lease_id,
            sealed_grant=sealed,
            now=now,
            changed_at=offer.changed_at,
        )

    def _unwrapped(self, model: StoredModel) -> ModelKey:
        try:
            return ModelKey(self._keyring.unwrap(model.record_id(), Wrapped(model.wrapped_key, model.root_key_id)))
        except SealBroken:
            raise altered(model.name) from None

    async def _record_release(self, granted: _Granted) -> None:
        """Put it on record, and its lease; raises NotReady where its terms changed since it was decided on."""
        grant, result = granted.grant, granted.result
        now_ms = int(granted.now.timestamp() * 1000)

        def make(change: Change) -> None:
            changed = changed_at(change, grant.model_name) != granted.changed_at
            if changed or generation_held(change, grant.model_name):
                raise NotReady("something of the model has changed meanwhile; ask again", reason="terms.changed")
            line = change.line(
                RELEASED,
                model=grant.model_name,
                version=grant.model_version,
                lease_id=granted.lease_id,
                lease_s=grant.lease_s,
                policy_digest=grant.policy_digest.hex(),
                epochs=[str(key.epoch) for key in grant.epochs],
                **result_facts(result),
            )
            lease = GivenLease(grant.model_name, grant.model_version, line)
            ends_ms = now_ms + grant.lease_s * 1000
            give(change, granted.lease_id, result.instance, lease, now_ms=now_ms, ends_ms=ends_ms)

        await self._ledger.changed(make)
        self._ledger.check()  # who was stopped while it was written may have lost the lease meanwhile
        self._metrics.key_asked(released=True, simulated=granted.result.simulated)

    async def _record_refusal(
        self, refusal: CloisterError, request: ReleaseRequest, peer: PeerIdentity, result: AttestationResult | None
    ) -> None:
        asked, version = request.model_name, request.model_version
        await self._refusals.record(refusal, model=asked, version=version, peer=peer.spiffe_id, result=result)


def _same_party(result: AttestationResult, peer: PeerIdentity) -> None:
    if result.spiffe_id != peer.spiffe_id or result.tls_spki_sha256 != peer.spki_sha256:
        raise KeyRefused("the result is of another party than the caller", reason="peer.other")


def _possesses(result: AttestationResult, request: ReleaseRequest) -> None:
    message = proof_message(request.nonce, request.attestation_result, request.model_name, request.model_version)
    try:
        Ed25519PublicKey.from_public_bytes(result.receipt_key).verify(request.proof, message)
    except (InvalidSignature, ValueError):
        raise KeyRefused("the proof of possession does not hold", reason="proof.invalid") from None
