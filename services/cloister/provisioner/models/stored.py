"""What is stored of a model, and the looks that find it: each row checked against what the log says of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from cloister.errors import InvalidRequest
from cloister.provisioner.ledger.look import Look, altered
from cloister.provisioner.ledger.tables import HELD, MODEL, MODEL_VERSION, POLICY, SIGNER_SET, Key
from cloister.provisioner.vaults.vault import RecordId


@dataclass(frozen=True, slots=True)
class Owner:
    """Who registered a name first: nobody else adds versions or policies to it."""

    spiffe_id: str
    key: bytes


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One version of a model.

    Attributes:
        manifest: The exact bytes that the owner signed.
        recovery_copy: Of its key, as `wrapped_key` is.
        signer_sets: Those of its name, from the first to the one that counts now; none, and the owner's key does.
    """

    name: str
    version: int
    owner: Owner
    manifest: bytes
    signature: bytes
    recovery_copy: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)
    root_key_id: str
    signer_sets: tuple[bytes, ...] = field(default=(), repr=False)

    def record_id(self) -> RecordId:
        """What its wrapped key is bound to."""
        return RecordId(self.name, self.version, hashlib.sha256(self.manifest).digest(), self.owner.key)


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A release policy: the exact bytes that the owner signed."""

    version: int
    policy: bytes
    signature: bytes


def in_force(look: Look, name: str) -> StoredPolicy | None:
    """The policy of a model that is in force, if there is one; raises SealBroken (`store.altered`)."""
    version = look.newest(POLICY, name)
    row = look.get(POLICY, Key(name, version)) if version else None
    return None if row is None else StoredPolicy(version, *row)


def generation_held(look: Look, name: str) -> int:
    """The generation since which a model is held; 0 where it never was, or its owner has signed a policy since."""
    policy = Key(name, look.newest(POLICY, name))
    return last_held(look, name) if look.sequence_of(HELD, Key(name)) > look.sequence_of(POLICY, policy) else 0


def check_owner_speaks(look: Look, name: str, *, owner_signed: bool) -> None:
    """Check, in a change, that a held model's own owner has signed what is to hold of it, beside whoever signs for it.

    A log that was resumed may have lost who signs now. Those whom the lost lines had removed count by what is left, so
    nothing of theirs holds until the owner's key has said by whom the model goes on.

    Raises:
        InvalidRequest: The owner has not (`signature.insufficient`).
    """
    if generation_held(look, name) and not owner_signed:
        raise InvalidRequest(
            "the log was resumed after a loss, and may have lost who signs for this model: the key that registered it "
            "must sign this too",
            reason="signature.insufficient",
        )


def last_held(look: Look, name: str) -> int:
    """The generation in which a model was held last; 0 where it never was."""
    row = look.get(HELD, Key(name))
    return 0 if row is None else int(row[0])


def stored_owner(look: Look, name: str) -> Owner | None:
    """Who registered a name, if anyone did; raises SealBroken (`store.altered`)."""
    row = look.get(MODEL, Key(name))
    return None if row is None else Owner(*row)


def stored_model(look: Look, name: str, version: int) -> StoredModel | None:
    """One version of a model, if there is one; raises SealBroken (`store.altered`)."""
    row = look.get(MODEL_VERSION, Key(name, version))
    if row is None:
        return None
    owner = stored_owner(look, name)
    if owner is None:  # nothing of ours registers a version without
        raise altered(name)
    return replace(StoredModel(name, version, owner, *row), signer_sets=stored_signer_sets(look, name))


def stored_signer_sets(look: Look, name: str) -> tuple[bytes, ...]:
    """The signer sets of a model, from the first on; raises SealBroken (`store.altered`)."""
    return tuple(row[0] for row in look.all(SIGNER_SET, name).values())


def stored_versions(look: Look, name: str) -> list[tuple[StoredModel, StoredPolicy | None]]:
    """All versions of a model, each with the policy in force; raises SealBroken (`store.altered`)."""
    policy = in_force(look, name)
    found = (stored_model(look, name, version) for version in look.numbers(MODEL_VERSION, name))
    return [(model, policy) for model in found if model is not None]
