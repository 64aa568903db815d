"""The store of models: manifests, wrapped keys and release policies.

The first registration of a name fixes its owner: a SPIFFE id and an Ed25519 key. Versions, of models and of policies,
only go up. Each change is made with its line in the log, which `line` writes, or not at all. Which version of a name is
its newest, the log says. Blocking and thread safe: called off the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from cloister.errors import AlreadyExists, InvalidRequest, NotFound, NotReady, SealBroken
from cloister.kit.signer_set import SignerSet
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.look import Look
from cloister.provisioner.ledger.marks import FIRST_GENERATION
from cloister.provisioner.ledger.tables import HELD, MODEL, MODEL_VERSION, POLICY, SIGNER_SET, Key
from cloister.provisioner.models.copy_check import check_copy
from cloister.provisioner.models.stored import (
    Owner,
    StoredModel,
    StoredPolicy,
    check_owner_speaks,
    generation_held,
    in_force,
    last_held,
    stored_model,
    stored_owner,
    stored_signer_sets,
    stored_versions,
)
from cloister.seal.release_policy import parse_policy

Line = Callable[[Change], int]
"""Writes the line of a change and returns its number."""


class ModelStore:
    """Models and policies of all owners."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def register(self, model: StoredModel, *, line: Line) -> int:
        """Add a version of a model, and the owner of its name when it is the first; returns the number of its line.

        Raises:
            AlreadyExists: The name is another owner's (`name.taken`), or the version is not above all before it
                (`version.not_higher`).
            NotReady: Others sign for it than those in `model` (`signer_set.changed`), or a recovery key was dealt since
                its key was wrapped (`recovery.dealt`): ask again.
        """

        def change(change: Change) -> int:
            owner = stored_owner(change, model.name)
            if owner is None:
                change.put(MODEL, Key(model.name), model.owner.spiffe_id, model.owner.key)
                if change.marks.generation > FIRST_GENERATION:  # it may have been here before, with policies
                    change.put(HELD, Key(model.name), change.marks.generation)
            elif owner != model.owner:
                raise AlreadyExists("the name is taken by another owner or with another key")
            newest = change.newest(MODEL_VERSION, model.name)
            if model.version <= newest:
                raise AlreadyExists(f"version {newest} is registered; a new one is higher", reason="version.not_higher")
            if change.newest(SIGNER_SET, model.name) != len(model.signer_sets):
                raise NotReady("who signs for the model has changed meanwhile", reason="signer_set.changed")
            key = Key(model.name, model.version)
            check_copy(change, model.recovery_copy)
            change.put(
                MODEL_VERSION,
                key,
                model.manifest,
                model.signature,
                model.recovery_copy,
                model.wrapped_key,
                model.root_key_id,
            )
            return line(change)

        return self._ledger.change(change)

    def set_policy(
        self,
        name: str,
        policy: StoredPolicy,
        *,
        owner: Owner,
        line: Line,
        owner_signed: bool,
        signer_set: int = 0,
        floor: int = 0,
        log_generation: int = 0,
    ) -> int:
        """Put a policy in force; returns the number of its line.

        Args:
            name: Of its model.
            policy: As it was signed.
            owner: Who must have registered the model.
            line: Writes its line.
            owner_signed: The owner's key is among those that have signed it.
            signer_set: That has signed it; 0 for the owner's key.
            floor: Versions below are released to nobody by it.
            log_generation: That the policy names: of a model that was ever held, the one since when it last was.

        Raises:
            NotFound: This owner has no model of that name.
            InvalidRequest: Another signer set counts now (`signer_set.superseded`, `signer_set.unknown`), or the model
                is held and its owner has not signed (`signature.insufficient`).
            AlreadyExists: The version is not above that of the policy in force (`version.not_higher`), or its floor is
                below one that held before (`min_model_version.lowered`).
            NotReady: The model was held, and the policy was not signed for that (`model.held`).
        """

        def change(change: Change) -> int:
            if stored_owner(change, name) != owner:
                raise NotFound("there is no such model of yours")
            _check_set(signer_set, change.newest(SIGNER_SET, name))
            check_owner_speaks(change, name, owner_signed=owner_signed)
            newest = change.newest(POLICY, name)
            if policy.version <= newest:
                raise AlreadyExists(
                    f"policy version {newest} is in force; a new one is higher", reason="version.not_higher"
                )
            _check_floor(floor, _floor(change, name))
            _check_generation(change, name, log_generation)
            change.put(POLICY, Key(name, policy.version), policy.policy, policy.signature)
            return line(change)

        return self._ledger.change(change)

    def set_signers(self, signers: SignerSet, envelope: bytes, *, owner: Owner, line: Line, owner_signed: bool) -> int:
        """Have others sign for a model from now on; returns the number of its line.

        Args:
            signers: As it was read.
            envelope: As it was signed, by the set before.
            owner: Who must have registered its model.
            line: Of this change.
            owner_signed: The owner's key is among those that have signed it.

        Raises:
            InvalidRequest: The model is held, and its owner has not signed (`signature.insufficient`).
            NotFound: This owner has no model of that name.
            AlreadyExists: The set is not the next (`version.not_higher`).
        """

        def change(change: Change) -> int:
            if stored_owner(change, signers.model_name) != owner:
                raise NotFound("there is no such model of yours")
            check_owner_speaks(change, signers.model_name, owner_signed=owner_signed)
            newest = change.newest(SIGNER_SET, signers.model_name)
            if signers.version != newest + 1:
                raise AlreadyExists(
                    f"signer set {newest} signs for it; the next one is {newest + 1}", reason="version.not_higher"
                )
            change.put(SIGNER_SET, Key(signers.model_name, signers.version), envelope)
            return line(change)

        return self._ledger.change(change)

    def signer_sets(self, name: str) -> tuple[bytes, ...]:
        """A model's, from the first on; raises SealBroken (`store.altered`)."""
        with self._ledger.looking() as look:
            return stored_signer_sets(look, name)

    def owner(self, name: str) -> Owner | None:
        """Who registered this name, if anyone did."""
        with self._ledger.looking() as look:
            return stored_owner(look, name)

    def find(self, name: str, version: int = 0) -> tuple[StoredModel, StoredPolicy | None] | None:
        """A model (version 0: its newest) and the policy in force, if any; None when there is no such model.

        Raises:
            SealBroken: What is stored is not as it was written (`store.altered`).
        """
        with self._ledger.looking() as look:
            model = stored_model(look, name, version or look.newest(MODEL_VERSION, name))
            return None if model is None else (model, in_force(look, name))

    def held(self) -> dict[str, int]:
        """All models that are held, and since which generation."""
        with self._ledger.looking() as look:
            return {name: since for name in look.names(HELD) if (since := generation_held(look, name))}

    def listing(self, owner: str | None = None) -> list[tuple[StoredModel, StoredPolicy | None]]:
        """All versions of all models, or of those whose owner has this SPIFFE id, each with the policy in force.

        What is not as it was written is left out; the log of this service names it.
        """
        listed: list[tuple[StoredModel, StoredPolicy | None]] = []
        with self._ledger.looking() as look:
            names = look.names(MODEL)
        for name in names:
            with suppress(SealBroken), self._ledger.looking() as look:
                known = stored_owner(look, name)
                if known is not None and owner in (None, known.spiffe_id):
                    listed += stored_versions(look, name)
        return listed


def _check_generation(look: Look, name: str, named: int) -> None:
    """Check that a policy was signed after the log was last resumed.

    For as long as that generation goes, not only while the model is held: of the policies that were lost, some may have
    higher versions than the one that its owner has signed since.
    """
    since = last_held(look, name)
    if named != since:
        raise NotReady(
            f"generation {since} of the log is the last that the model was held in, and this policy was not signed for "
            "that: draft it anew",
            reason="model.held",
        )


def _check_set(named: int, newest: int) -> None:
    if named < newest:
        raise InvalidRequest(
            f"the policy is signed by signer set {named}, and set {newest} decides now: draft it anew",
            reason="signer_set.superseded",
        )
    if named > newest:
        raise InvalidRequest(f"the policy names signer set {named}, which is not known", reason="signer_set.unknown")


def _check_floor(wanted: int, floor: int) -> None:
    if wanted < floor:
        raise AlreadyExists(
            f"versions before {floor} are released to nobody any more, and a policy cannot change that",
            reason="min_model_version.lowered",
        )


def _floor(look: Look, name: str) -> int:
    """The lowest version that is released still: of the newest policy that is as it was written."""
    for version in reversed(look.numbers(POLICY, name)):
        with suppress(SealBroken):
            row = look.get(POLICY, Key(name, version))
            return parse_policy(row[0]).min_model_version if row is not None else 0
    return 0
