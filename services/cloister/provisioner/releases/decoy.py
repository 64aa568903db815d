"""A model that nobody may have: judged in the place of one that does not exist, so that both refusals cost the same.

A worker that may not have a model hears the same sentence as for one that is not there. It could still tell them apart
by the time that the answer takes, were signatures and rules only gone through where there is something to go through
(attack F02). Signed by a key that is thrown away.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.provisioner_pb2 import ReleasePolicy
from cloister.provisioner.models.stored import Owner, StoredModel, StoredPolicy
from cloister.seal.manifest import ModelManifest, sign, sign_policy
from cloister.seal.release_policy import MIN_LEASE_S

_NAME = "decoy"


def decoy(cluster: str) -> tuple[StoredModel, StoredPolicy]:
    """One for this mesh: no enclave has the measurement that its policy names, and its key is none."""
    key = Ed25519PrivateKey.generate()
    manifest = ModelManifest(
        name=_NAME,
        version=1,
        digest=bytes(32),
        size_bytes=1,
        created_at=datetime.fromtimestamp(0, UTC),
        files=(("model.xml", 1),),
    )
    signed = sign(manifest, key)
    owner = Owner(f"spiffe://{cluster}/owner/{_NAME}", signed.public_key)
    model = StoredModel(_NAME, 1, owner, signed.manifest, signed.signature, b"", b"", "")
    policy = ReleasePolicy(
        model_name=_NAME,
        version=1,
        mrenclave=[signed.public_key.hex()],
        tcb_statuses=["UpToDate"],
        lease_s=MIN_LEASE_S,
        cluster=cluster,
    ).SerializeToString(deterministic=True)
    return model, StoredPolicy(1, policy, sign_policy(policy, key))
