"""The owners' side: models and release policies in, and what is held, and who got what, out again.

An owner is a SPIFFE id and an Ed25519 key, both fixed by the first registration of a name: neither a stolen TLS key nor
a stolen signing key alone changes a model or its policy. Where the owner has handed a model to a signer set, enough of
that sign for policies, new versions and the next set (docs/decisions/0056-release-policies.md). Every change has its
line in the log, or does not happen. Blocking: called off the event loop.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from cloister import dsse
from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.errors import AlreadyExists, InvalidRequest, NotFound
from cloister.kit.log_origin import RESUMED
from cloister.kit.signed_policy import MANIFEST_TYPE, POLICY_TYPE, verified_policy
from cloister.kit.signer_set import SIGNER_SET_TYPE, SignerSet, follow, read_signer_set
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.models.store import ModelStore
from cloister.provisioner.models.stored import Owner, StoredModel, StoredPolicy
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.vault import RecordId
from cloister.seal.keys import KEY_BYTES, Secret
from cloister.seal.manifest import ModelManifest, verify
from cloister.seal.release_policy import ReleasePolicy, check_meant_for, parse_policy

RECOVERY_EVENTS: Final = "recovery."
"""How the events begin that tell of the recovery key."""
_PAGE_LINES: Final = 256


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

    def register(
        self, owner: str, manifest: bytes, signature: bytes, public_key: bytes, key: Secret, approval: bytes = b""
    ) -> int:
        """Keep a model's signed manifest and its key; returns the sequence number of the entry.

        Args:
            owner: SPIFFE id of the caller.
            manifest: Exact bytes, as signed.
            signature: Over them, by the holder of `public_key`.
            public_key: Ed25519, 32 bytes.
            key: The model's, 32 bytes.
            approval: An envelope of the manifest, where a signer set signs for the model.

        Raises:
            SealBroken: The signature does not hold.
            InvalidRequest: The manifest or the key is not one, or too few of those who sign for the model have signed
                the manifest (`signature.insufficient`, `signature.other`).
            AlreadyExists: The name is another's, or the version not above all before it.
            Unavailable: The vault does not answer.
        """
        described = verify(manifest, signature, public_key)
        if len(key) != KEY_BYTES:
            raise InvalidRequest(f"a model key is {KEY_BYTES} bytes", reason="model_key.invalid")
        known = self._store.owner(described.name)
        signer_sets = self._store.signer_sets(described.name) if known == Owner(owner, public_key) else ()
        signers = self._signers(described.name, public_key, signer_sets)
        approved_by = _approved_by(signers, manifest, approval)
        record = RecordId(described.name, described.version, hashlib.sha256(manifest).digest(), public_key)
        wrapped = self._keyring.wrap(record, key)
        model = StoredModel(
            name=described.name,
            version=described.version,
            owner=Owner(owner, public_key),
            manifest=manifest,
            signature=signature,
            recovery_copy=wrapped.recovery_copy,
            wrapped_key=wrapped.content,
            root_key_id=wrapped.root_key_id,
            signer_sets=signer_sets,
        )
        line = self._store.register(model, line=lambda change: _tell_model(change, model, described, approved_by))
        self._told(model.name)
        return line

    def set_policy(self, owner: str, policy: bytes, signature: bytes) -> int:
        """Put a release policy in force; returns the sequence number of the entry.

        Args:
            owner: SPIFFE id of the caller.
            policy: A serialised ReleasePolicy, exact bytes, as signed.
            signature: Over them, by the key that the model's name belongs to, or by enough of its signer set.

        Raises:
            InvalidRequest: The policy is not well formed, or meant for another mesh; or too few of those who sign for
                the model have signed it (`signature.insufficient`), or others do now (`signer_set.*`).
            NotFound: The caller has no model of that name.
            SealBroken: The signature is not by the owner's key.
            AlreadyExists: The version is not above that of the policy in force, or its floor is below that one's.
            NotReady: The model is held, and the policy was not signed for that.
        """
        read = parse_policy(policy)
        check_meant_for(read, self._cluster)
        known = self._owned(owner, read.model_name)
        signer_sets = self._store.signer_sets(read.model_name)
        verified_policy(policy, signature, known.key, signer_sets)
        signed_by, owner_signed = [known.key.hex()], True
        if read.signer_set:
            signers = self._signers(read.model_name, known.key, signer_sets[: read.signer_set])
            signed_by = signers.signed_by(signature, POLICY_TYPE)
            owner_signed = known.key.hex() in dsse.signers(signature, POLICY_TYPE)
        line = self._store.set_policy(
            read.model_name,
            StoredPolicy(read.version, policy, signature),
            owner=known,
            line=lambda change: _tell_policy(change, read, owner, signed_by),
            owner_signed=owner_signed,
            signer_set=read.signer_set,
            floor=read.min_model_version,
            log_generation=read.log_generation,
        )
        self._told(read.model_name)
        return line

    def set_signers(self, owner: str, envelope: bytes) -> int:
        """Have others sign for a model from now on; returns the sequence number of the entry.

        Args:
            owner: SPIFFE id of the caller.
            envelope: The next signer set, signed by enough of those who sign now, and of its own.

        Raises:
            InvalidRequest: It is no signer set of this mesh, or too few have signed it (`signature.insufficient`).
            NotFound: The caller has no model of the name in it.
            AlreadyExists: It is not the next.
        """
        proposed = read_signer_set(dsse.payload(envelope, SIGNER_SET_TYPE))
        known = self._owned(owner, proposed.model_name)
        before = self._store.signer_sets(proposed.model_name)
        if proposed.version <= len(before):
            raise AlreadyExists(
                f"signer set {len(before)} signs for it; the next one is higher", reason="version.not_higher"
            )
        signers = self._signers(proposed.model_name, known.key, (*before, envelope))
        now = self._signers(proposed.model_name, known.key, before)
        line = self._store.set_signers(
            signers,
            envelope,
            owner=known,
            owner_signed=known.key.hex() in dsse.signers(envelope, SIGNER_SET_TYPE),
            line=lambda change: change.line(
                "signers.set",
                model=signers.model_name,
                signer_set=signers.version,
                threshold=signers.threshold,
                signers=list(signers.keys),
                signed_by=now.signed_by(envelope, SIGNER_SET_TYPE),
                owner=owner,
            ),
        )
        self._told(signers.model_name)
        return line

    def listing(self, owner: str | None) -> list[tuple[StoredModel, StoredPolicy | None]]:
        """All models, or this owner's; never a key."""
        return self._store.listing(owner)

    def held(self) -> dict[str, int]:
        """Models that are held, and since which generation of the log."""
        return self._store.held()

    def audit(
        self, owner: str | None, *, model_name: str = "", after: int = 0, newest: int = 0
    ) -> Iterator[list[AuditRecord]]:
        """Entries, oldest first: all of them, or those about this owner's models; of one model if it is named.

        In pages, by what was looked at: an empty one says that there was nothing for the caller in it, so nobody holds
        a thread up for as long as the record is. What concerns the recovery key, which opens every owner's keys, each
        owner is told, and that the log was resumed after a loss. With `newest`, of so many lines at the record's end
        only.
        """
        entries = self._ledger.log.records(after, newest)
        while page := list(islice(entries, _PAGE_LINES)):
            yield [each for each in page if self._shows(each, owner, model_name)]

    def _shows(self, entry: AuditRecord, owner: str | None, model_name: str) -> bool:
        told = json.loads(entry.record)
        about = told.get("model")
        if model_name and about != model_name:
            return False
        event = str(told.get("event", ""))
        of_all = event.startswith(RECOVERY_EVENTS) or event == RESUMED
        return owner is None or of_all or (isinstance(about, str) and self._owns(owner, about))

    def _owned(self, owner: str, model_name: str) -> Owner:
        known = self._store.owner(model_name)
        if known is None or known.spiffe_id != owner:
            raise NotFound("there is no such model of yours")
        return known

    def _signers(self, model_name: str, owner_key: bytes, signer_sets: tuple[bytes, ...]) -> SignerSet:
        return follow(owner_key, signer_sets, model_name=model_name, cluster=self._cluster)

    def _owns(self, owner: str, model_name: str) -> bool:
        known = self._store.owner(model_name)
        return known is not None and known.spiffe_id == owner


def _approved_by(signers: SignerSet, manifest: bytes, approval: bytes) -> list[str]:
    """Who of a model's signer set has approved of a version; nobody has to where there is no set.

    Raises:
        InvalidRequest: Too few have (`signature.insufficient`), or of another version (`signature.other`).
    """
    if not signers.version:
        return []
    if not approval:
        raise InvalidRequest(
            f"{signers.threshold} of signer set {signers.version} must approve of a new version of this model",
            reason="signature.insufficient",
        )
    if signers.verified(approval, MANIFEST_TYPE) != manifest:
        raise InvalidRequest("the approval is of another version", reason="signature.other")
    return signers.signed_by(approval, MANIFEST_TYPE)


def _tell_model(change: Change, model: StoredModel, described: ModelManifest, approved_by: list[str]) -> int:
    return change.line(
        "model.registered",
        model=model.name,
        version=model.version,
        digest=described.digest.hex(),
        owner=model.owner.spiffe_id,
        owner_key=model.owner.key.hex(),
        approved_by=approved_by,
    )


def _tell_policy(change: Change, policy: ReleasePolicy, owner: str, signed_by: list[str]) -> int:
    return change.line(
        "policy.set",
        model=policy.model_name,
        policy_version=policy.version,
        policy_digest=policy.digest.hex(),
        allow_simulated=policy.allow_simulated,
        allow_plain=policy.allow_plain,
        lease_s=policy.lease_s,
        min_model_version=policy.min_model_version,
        releases_per_hour=policy.releases_per_hour,
        signer_set=policy.signer_set,
        signed_by=signed_by,
        owner=owner,
    )
