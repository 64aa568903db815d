"""The owners' side: models and release policies in, and what is held, and who got what, out again.

An owner is a SPIFFE id and an Ed25519 key, both fixed by the first registration of a name: neither a stolen TLS key nor
a stolen signing key alone changes a model or its policy. Every change has its line in the log, or does not happen.
Blocking: called off the event loop.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator

from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.errors import InvalidRequest, NotFound
from cloister.provisioner.change import Change
from cloister.provisioner.keyring import Keyring
from cloister.provisioner.ledger import Ledger
from cloister.provisioner.models import ModelStore, Owner, StoredModel, StoredPolicy
from cloister.provisioner.vault import RecordId
from cloister.seal.keys import KEY_BYTES, Secret
from cloister.seal.manifest import ModelManifest, verify, verify_policy
from cloister.seal.release_policy import check_meant_for, parse_policy


class Registry:
    """Models and policies of one cluster, as their owners see them.

    Args:
        told: Hears the name of a model that something has changed of, once that is on disk.
    """

    def __init__(
        self,
        *,
        cluster: str,
        store: ModelStore,
        keyring: Keyring,
        ledger: Ledger,
        told: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._keyring = keyring
        self._ledger = ledger
        self._told = told

    def register(self, owner: str, manifest: bytes, signature: bytes, public_key: bytes, key: Secret) -> int:
        """Keep a model's signed manifest and its key; returns the sequence number of the entry.

        Args:
            owner: SPIFFE id of the caller.
            manifest: Exact bytes, as signed.
            signature: Over them, by the holder of `public_key`.
            public_key: Ed25519, 32 bytes.
            key: The model's, 32 bytes.

        Raises:
            SealBroken: The signature does not hold.
            InvalidRequest: The manifest or the key is not one.
            AlreadyExists: The name is another's, or the version not above all before it.
            Unavailable: The vault does not answer.
        """
        described = verify(manifest, signature, public_key)
        if len(key) != KEY_BYTES:
            raise InvalidRequest(f"a model key is {KEY_BYTES} bytes", reason="model_key.invalid")
        record = RecordId(described.name, described.version, hashlib.sha256(manifest).digest(), public_key)
        wrapped = self._keyring.wrap(record, key)
        model = StoredModel(
            name=described.name,
            version=described.version,
            owner=Owner(owner, public_key),
            manifest=manifest,
            signature=signature,
            wrapped_key=wrapped.content,
            root_key_id=wrapped.root_key_id,
        )
        line = self._store.register(model, line=lambda change: _tell_model(change, model, described))
        self._told(model.name)
        return line

    def set_policy(self, owner: str, policy: bytes, signature: bytes) -> int:
        """Put a release policy in force; returns the sequence number of the entry.

        Args:
            owner: SPIFFE id of the caller.
            policy: A serialised ReleasePolicy, exact bytes, as signed.
            signature: Over them, by the key that the model's name belongs to.

        Raises:
            InvalidRequest: The policy is not well formed, or meant for another mesh.
            NotFound: The caller has no model of that name.
            SealBroken: The signature is not by the owner's key.
            AlreadyExists: The version is not above that of the policy in force.
            NotReady: The model is held, and the policy was not signed for that.
        """
        read = parse_policy(policy)
        check_meant_for(read, self._cluster)
        known = self._store.owner(read.model_name)
        if known is None or known.spiffe_id != owner:
            raise NotFound("there is no such model of yours")
        verify_policy(policy, signature, known.key)
        line = self._store.set_policy(
            read.model_name,
            StoredPolicy(read.version, policy, signature),
            owner=known,
            log_generation=read.log_generation,
            line=lambda change: change.line(
                "policy.set",
                model=read.model_name,
                policy_version=read.version,
                policy_digest=read.digest.hex(),
                allow_simulated=read.allow_simulated,
                owner=owner,
            ),
        )
        self._told(read.model_name)
        return line

    def listing(self, owner: str | None) -> list[tuple[StoredModel, StoredPolicy | None]]:
        """All models, or this owner's; never a key."""
        return self._store.listing(owner)

    def held(self) -> dict[str, int]:
        """Models that are held, and since which generation of the log."""
        return self._store.held()

    def audit(
        self, owner: str | None, *, model_name: str = "", after: int = 0, newest: int = 0
    ) -> Iterator[AuditRecord]:
        """Entries, oldest first: all of them, or those about this owner's models; of one model if it is named.

        With `newest`, of so many lines at the record's end only.
        """
        for entry in self._ledger.log.records(after, newest):
            about = json.loads(entry.record).get("model")
            if model_name and about != model_name:
                continue
            if owner is None or (isinstance(about, str) and self._owns(owner, about)):
                yield entry

    def _owns(self, owner: str, model_name: str) -> bool:
        known = self._store.owner(model_name)
        return known is not None and known.spiffe_id == owner


def _tell_model(change: Change, model: StoredModel, described: ModelManifest) -> int:
    return change.line(
        "model.registered",
        model=model.name,
        version=model.version,
        digest=described.digest.hex(),
        owner=model.owner.spiffe_id,
        owner_key=model.owner.key.hex(),
    )
