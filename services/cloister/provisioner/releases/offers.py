"""What a release is decided about: the version that is asked for, and the policy in force, as they were signed.

For what nobody gets, because it does not exist, has no policy, is withdrawn or held, a decoy stands in, which every
policy refuses: so a refusal takes the same steps whatever is asked for (attack F02).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from cloister.errors import InvalidRequest, KeyRefused, SealBroken
from cloister.kit.signed_policy import verified_policy
from cloister.provisioner.leasing.withdrawals import changed_at, releasable
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.look import altered
from cloister.provisioner.models.stored import StoredModel, StoredPolicy, generation_held, in_force, stored_model
from cloister.provisioner.releases.decoy import decoy
from cloister.seal.manifest import ModelManifest, verify
from cloister.seal.release_policy import ReleasePolicy


class Offer(NamedTuple):
    """What was found.

    Attributes:
        changed_at: The line of the log as of which it was; one that is later voids what was decided.
        missing: Why nobody gets it; then it is the decoy.
    """

    model: StoredModel
    policy: StoredPolicy
    changed_at: int = 0
    missing: KeyRefused | None = None

    def as_signed(self) -> tuple[ModelManifest, ReleasePolicy]:
        """Read what those signed who may, believing signatures and not the store; raises SealBroken."""
        model, policy = self.model, self.policy
        try:
            described = _verified_manifest(model.manifest, model.signature, model.owner.key)
            allowed = verified_policy(policy.policy, policy.signature, model.owner.key, model.signer_sets)
        except (SealBroken, InvalidRequest):
            raise altered(model.name) from None
        if (described.name, described.version, allowed.model_name) != (model.name, model.version, model.name):
            raise altered(model.name)
        return described, allowed


@lru_cache(maxsize=128)  # the same bytes, signature and key come with each release, and the same is found each time
def _verified_manifest(manifest: bytes, signature: bytes, owner_key: bytes) -> ModelManifest:
    return verify(manifest, signature, owner_key)


class Offers:
    """Finds them. Blocking and thread safe.

    Args:
        cluster: Trust domain.
        ledger: Has models, and knows what is withdrawn.
    """

    def __init__(self, cluster: str, ledger: Ledger) -> None:
        self._ledger = ledger
        self._decoy = decoy(cluster)

    def find(self, name: str, version: int) -> Offer:
        """The offer of a version, 0 for the newest that is released; raises SealBroken (`store.altered`)."""
        try:
            return self._found(name, version)
        except KeyRefused as missing:
            return Offer(*self._decoy, missing=missing)

    def _found(self, name: str, version: int) -> Offer:
        with self._ledger.looking() as look:
            model = stored_model(look, name, releasable(look, name, version))
            policy = in_force(look, name)
            held, as_of = generation_held(look, name), changed_at(look, name)
        if model is None:
            raise KeyRefused("there is no such model", reason="model.unknown")
        if policy is None:
            raise KeyRefused("its owner has not said yet who may have it", reason="policy.missing")
        if held:
            raise KeyRefused("the log was resumed, and its owner has not signed a policy since", reason="model.held")
        return Offer(model, policy, as_of)
