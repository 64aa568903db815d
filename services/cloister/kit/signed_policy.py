"""A release policy and those who signed it: the owner's key, or enough of the signer set that it names.

A policy that names no set (`signer_set` 0) has the owner's signature over a label and its bytes, as every policy had
before there were sets. One that names a set has an envelope of its bytes (`cloister.dsse`), and the sets from the first
to the one it names must lead there from the owner's key. So a signature of somebody who was removed, and the owner's
own once it has been handed on, count for policies that name an earlier set only; whether such a policy may come into
force is for the provisioner to say, which knows the newest. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cloister.errors import InvalidRequest
from cloister.kit.signer_set import follow
from cloister.seal.manifest import verify_policy
from cloister.seal.release_policy import MAX_SIGNATURE_BYTES, ReleasePolicy, parse_policy

POLICY_TYPE: Final = "application/vnd.cloister.release-policy"
MANIFEST_TYPE: Final = "application/vnd.cloister.model-manifest+json"


def verified_policy(raw: bytes, signature: bytes, owner_key: bytes, signer_sets: Sequence[bytes]) -> ReleasePolicy:
    """Return the policy, having found it signed by those who may.

    Args:
        raw: A serialised ReleasePolicy, exact bytes.
        signature: By the owner's key, 64 bytes; an envelope where the policy names a signer set.
        owner_key: That registered the model, Ed25519, 32 bytes.
        signer_sets: The model's, from the first on: as many as the policy names, or more.

    Raises:
        InvalidRequest: The policy is not well formed (`policy.invalid`), too few of its set have signed these bytes
            (`signature.insufficient`), or no chain of sets leads to it (`signer_set.*`).
        SealBroken: It names no set, and the signature is not the owner's.
    """
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise InvalidRequest("the policy's signatures are too long", reason="signature.malformed")
    return _verified(raw, signature, owner_key, tuple(signer_sets))


@lru_cache(maxsize=128)  # a chain of signatures costs a millisecond, and every release and every epoch asks
def _verified(raw: bytes, signature: bytes, owner_key: bytes, signer_sets: tuple[bytes, ...]) -> ReleasePolicy:
    policy = parse_policy(raw)
    if not policy.signer_set:
        verify_policy(raw, signature, owner_key)
        return policy
    leading = signer_sets[: policy.signer_set]
    signers = follow(owner_key, leading, model_name=policy.model_name, cluster=policy.cluster)
    if signers.version != policy.signer_set:
        raise InvalidRequest(
            f"the policy is signed by signer set {policy.signer_set}, and the sets before it are not all here",
            reason="signer_set.gap",
        )
    if signers.verified(signature, POLICY_TYPE) != raw:
        raise InvalidRequest("the signatures are over another policy", reason="signature.other")
    return policy
