"""Keys that jobs are sealed to: one for each model name and epoch (docs/decisions/0045-epoch-keys.md).

An epoch begins with a release of its model's key, under the policy in force then, and nobody but this service has had
its seed before. A worker is given the keys of those epochs whose own policy its Attestation Result satisfies, and
today's too: what an owner once allowed lets nobody in who is not allowed now, and what is allowed now lets nobody into
what was sealed before. Each beginning and each end has its line in the record, or does not happen.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from cloister.ear import AttestationResult
from cloister.errors import InvalidRequest, KeyRefused, NotReady, SealBroken, Unavailable
from cloister.kit.host_clock import HostClock
from cloister.kit.log import get_logger
from cloister.kit.signed_policy import verified_policy
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.look import altered
from cloister.provisioner.models.epoch_store import EpochStore, StoredEpoch
from cloister.provisioner.models.epoch_terms import Due, EpochTerms
from cloister.provisioner.models.rules import decide
from cloister.provisioner.models.stored import StoredModel, StoredPolicy
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.vault import Wrapped
from cloister.seal.grant import MAX_EPOCHS, EpochKey
from cloister.seal.hpke import SEED_BYTES, KeyPair
from cloister.seal.keys import Secret
from cloister.seal.release_policy import ReleasePolicy, check_meant_for

LOOK_S: Final = 60.0
_log = get_logger()


class Epochs:
    """The epochs of one cluster's models. Blocking and thread safe.

    Args:
        cluster: Trust domain of the mesh.
        terms: Of those that begin.
        store: Keeps them.
        keyring: Wraps their seeds.
    """

    def __init__(self, *, cluster: str, terms: EpochTerms, store: EpochStore, keyring: Keyring) -> None:
        self._cluster = cluster
        self._terms = terms
        self._store = store
        self._keyring = keyring
        self._lock = threading.Lock()

    def released_to(
        self,
        result: AttestationResult,
        model: StoredModel,
        policy: ReleasePolicy,
        stored: StoredPolicy,
        now: datetime,
    ) -> tuple[EpochKey, ...]:
        """The keys for a worker that today's policy lets have the model's, newest first; begins an epoch if one is due.

        Args:
            result: Of the worker.
            model: The version that it is given.
            policy: In force.
            stored: The same, as its owner signed it.
            now: Aware.

        Raises:
            SealBroken: A record is not as it was written (`store.altered`).
            NotReady: The policy has changed meanwhile.
            Unavailable: Store, vault or record do not work.
        """
        now_ms = _unix_ms(now)
        with self._lock:
            kept = self._store.kept(model.name, now_ms)
            due = self._terms.next_is_due(kept, policy, now_ms)
            if due is Due.NOW:
                kept.insert(0, self._begun(model, policy, stored, now_ms))
        if due is Due.DEFERRED:
            _log.warning("epoch.deferred", model=model.name, policy_version=policy.version, kept=len(kept))
        keys = []
        for epoch in kept[:MAX_EPOCHS]:
            with suppress(KeyRefused):
                if (epoch.policy, epoch.signature) != (stored.policy, stored.signature):  # of today's it is known
                    self._check(epoch, result, model)
                keys.append(self._key(epoch, model))
        return tuple(keys)

    def destroy_ended(self, now: datetime) -> None:
        """Destroy the keys whose time is up; raises as `released_to`."""
        with self._lock:
            if ended := self._store.ended(_unix_ms(now)):
                self._store.destroy(ended, line=partial(_tell, "epoch.destroyed"))

    def _begun(self, model: StoredModel, policy: ReleasePolicy, stored: StoredPolicy, now_ms: int) -> StoredEpoch:
        seed = Secret.random(SEED_BYTES)
        seal_until_ms, open_until_ms = self._terms.ends_ms(now_ms, policy.lease_s)
        epoch = StoredEpoch(
            name=model.name,
            number=self._store.next_number(model.name),
            suite=self._terms.suite,
            began_ms=now_ms,
            seal_until_ms=seal_until_ms,
            open_until_ms=open_until_ms,
            policy=stored.policy,
            signature=stored.signature,
            recovery_copy=b"",
            wrapped_seed=b"",
            root_key_id="",
        )
        try:
            key_id = KeyPair.from_seed(epoch.suite, seed.view).key_id
            wrapped = self._keyring.wrap(epoch.record_id(model.owner.key), seed)
            epoch = replace(
                epoch,
                recovery_copy=wrapped.recovery_copy,
                wrapped_seed=wrapped.content,
                root_key_id=wrapped.root_key_id,
            )
        finally:
            seed.wipe()
        self._store.begin(epoch, line=partial(_tell, "epoch.begun", epoch, key_id=key_id.hex()))
        return epoch

    def _check(self, epoch: StoredEpoch, result: AttestationResult, model: StoredModel) -> None:
        """Check that the epoch's own policy lets this worker have its key; raises KeyRefused."""
        try:
            policy = verified_policy(epoch.policy, epoch.signature, model.owner.key, model.signer_sets)
        except (SealBroken, InvalidRequest):
            raise altered(model.name) from None
        if policy.model_name != model.name:
            raise altered(model.name)
        try:
            check_meant_for(policy, self._cluster)
        except InvalidRequest as error:  # begun under another name of this mesh
            raise KeyRefused(str(error), reason=error.reason) from None
        decide(result, policy, model_version=model.version, cluster=self._cluster)

    def _key(self, epoch: StoredEpoch, model: StoredModel) -> EpochKey:
        try:
            wrapped = Wrapped(epoch.wrapped_seed, epoch.root_key_id)
            seed = self._keyring.unwrap(epoch.record_id(model.owner.key), wrapped)
        except SealBroken:
            raise altered(model.name) from None
        return EpochKey(
            epoch=epoch.number,
            suite=epoch.suite,
            seed=seed,
            seal_until_ms=epoch.seal_until_ms,
            open_until_ms=epoch.open_until_ms,
            policy=epoch.policy,
            policy_signature=epoch.signature,
        )


async def destroying(epochs: Epochs, clock: HostClock, look_s: float = LOOK_S) -> None:
    """Destroy each key in time, for as long as the service runs; until one is, it is released to nobody any more."""
    while True:
        try:
            await asyncio.to_thread(epochs.destroy_ended, clock.now())
        except (NotReady, Unavailable) as error:  # the clock was set back, or the record cannot be written
            _log.warning("epochs.not_destroyed", reason=error.reason, error=error)
        await asyncio.sleep(look_s)


def _tell(event: str, epoch: StoredEpoch, change: Change, **more: str) -> int:
    return change.line(
        event,
        model=epoch.name,
        epoch=epoch.number,
        suite=epoch.suite,
        policy_digest=epoch.policy_digest.hex(),
        seal_until_ms=epoch.seal_until_ms,
        open_until_ms=epoch.open_until_ms,
        **more,
    )


def _unix_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
