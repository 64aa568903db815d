"""What is withdrawn: a model, or a version of it, whose key is released to nobody (attacks J14, F05).

Its owner withdraws, or an operator, who could as well stop the workers: it is quick, and takes one person. What was
withdrawn is given back only by an order that as many of the model's signers signed as must, whoever brings it. A lift
leaves the row, so that those who went back to an older version hear that there is a newer one again. Blocking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from cloister import dsse
from cloister.errors import AlreadyExists, InvalidRequest, KeyRefused, NotAllowed, NotFound, NotReady
from cloister.kit.revocation import ORDER_TYPE
from cloister.kit.signer_set import follow
from cloister.kit.withdrawal import Withdrawn, check_reason, lift_order
from cloister.provisioner.leasing import leases
from cloister.provisioner.leasing.leases import Going
from cloister.provisioner.leasing.watch import Terms
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.look import Look
from cloister.provisioner.ledger.tables import MODEL, MODEL_VERSION, POLICY, SIGNER_SET, WITHDRAWAL, Key
from cloister.provisioner.models.stored import generation_held

CHANGING: Final = (MODEL_VERSION, POLICY, SIGNER_SET, WITHDRAWAL)
"""The tables whose rows say who may have a model's key, and which there is.

Not HELD: a log that is resumed has nobody ask again. Leases end by themselves, or when their owner signs anew."""
# As many signatures as an envelope may have, and some air.
MAX_ORDER_BYTES: Final = 32 << 10


class ModelSigners(NamedTuple):
    """Who signs for a model: Ed25519 public keys in hex, and how many of them must."""

    keys: frozenset[str]
    threshold: int


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One that is in force; see the message of this name."""

    what: Withdrawn
    sequence: int
    withdrawn_at_ms: int
    by: str
    reason: str


def in_force(look: Look, name: str) -> dict[int, Withdrawal]:
    """What is withdrawn of a model, by version, 0 for all of them."""
    found = {}
    for version, (at_ms, by, reason, lifted) in look.all(WITHDRAWAL, name).items():
        if not lifted:
            sequence = look.sequence_of(WITHDRAWAL, Key(name, version))
            found[version] = Withdrawal(Withdrawn(name, version), sequence, at_ms, by, reason)
    return found


def terms(look: Look, name: str) -> Terms:
    """What holds for a model now."""
    return Terms(changed_at(look, name), frozenset(in_force(look, name)))


def changed_at(look: Look, name: str) -> int:
    """The line of the log that last changed what holds for a model; 0 where there is none of that name."""
    return max(look.changed_at(table, name) for table in CHANGING)


def terms_of(ledger: Ledger, name: str) -> Terms:
    """The same, looked up."""
    with ledger.looking() as look:
        return terms(look, name)


def releasable(look: Look, name: str, version: int) -> int:
    """The version to release where `version` is asked for: itself, or for 0 the highest that is not withdrawn.

    Raises:
        KeyRefused: It is withdrawn, or all of them are (`model.withdrawn`, `version.withdrawn`); there is none of the
            name (`model.unknown`).
    """
    known, withdrawn = look.numbers(MODEL_VERSION, name), in_force(look, name)
    if 0 in withdrawn or version in withdrawn:
        what = withdrawn[0 if 0 in withdrawn else version].what
        raise KeyRefused(f"the {what.kind} is withdrawn", reason=what.refusal)
    left = [number for number in known if number not in withdrawn and version in (0, number)]
    if not left:
        refusal = "version.withdrawn" if known and not version else "model.unknown"
        raise KeyRefused("there is no such model, or all of it is withdrawn", reason=refusal)
    return max(left)


class Withdrawals:
    """Withdraws, lifts, and lists. Thread safe.

    Args:
        cluster: Trust domain.
        ledger: Keeps them.
        signers: Who signs for a model, from a look at the ledger.
        told: Hears the name of a model that something has changed of, once that is on disk.
        now: Aware.
    """

    def __init__(
        self,
        *,
        cluster: str,
        ledger: Ledger,
        signers: Callable[[Look, str], ModelSigners],
        told: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._signers = signers
        self._told = told
        self._now = now

    def withdraw(self, owner: str | None, what: Withdrawn, *, reason: str, by: str) -> tuple[int, Going]:
        """Withdraw a model or a version of it; returns the number of the line, and the leases that went.

        Args:
            owner: SPIFFE id of the caller; None for one who may withdraw everybody's.
            what: Which.
            reason: For the record.
            by: SPIFFE id of the caller.

        Raises:
            NotFound: There is no such model, or none of the caller's.
            AlreadyExists: It is withdrawn.
            InvalidRequest: The reason is none.
            NotReady, Unavailable: Nothing may or can be written now.
        """
        check_reason(reason)
        now_ms = int(self._now().timestamp() * 1000)

        def make(change: Change) -> tuple[int, Going]:
            _check_owned(change, owner, what)
            if what.version in in_force(change, what.name):
                raise AlreadyExists(f"{what} is withdrawn already", reason="withdrawal.exists")
            change.put(WITHDRAWAL, Key(*what), now_ms, by, reason, 0)
            line = change.line("model.withdrawn", model=what.name, version=what.version, why=reason, peer=by)
            return line, _went(change, what, now_ms)

        outcome = self._ledger.change(make)
        self._told(what.name)
        return outcome

    def lift(self, owner: str | None, what: Withdrawn, *, reason: str, by: str, order: bytes) -> int:
        """Give it back; returns the number of the line.

        Args:
            owner: As `withdraw`.
            what: Which.
            reason: For the record.
            by: SPIFFE id of the caller.
            order: An envelope.

        Raises:
            NotFound: It is not withdrawn, or not the caller's.
            NotAllowed: As many of the model's signers as must have not signed an order for it.
            InvalidRequest: The reason is none, or the order too long.
            NotReady: The model is held (`model.held`), or nothing may be written now.
            Unavailable: Nothing can be written.
        """
        check_reason(reason)
        if len(order) > MAX_ORDER_BYTES:
            raise InvalidRequest(f"an order has {MAX_ORDER_BYTES} bytes at most", reason="withdrawal.invalid")
        with self._ledger.looking() as look:
            found, signers = self._found(look, owner, what)
        signed_by = self._check_order(order, found, signers)

        def make(change: Change) -> int:
            if generation_held(change, what.name):  # by signers who may have been removed since
                raise NotReady(
                    "the log was resumed after a loss, and the owner has not said yet by whom the model goes on: sign "
                    "a policy for it first ('cloister model allow')",
                    reason="model.held",
                )
            if self._found(change, owner, what) != (found, signers):  # what was signed is for what there was
                raise NotAllowed("it was withdrawn anew meanwhile", reason="withdrawal.lift_unsigned")
            change.put(WITHDRAWAL, Key(*what), found.withdrawn_at_ms, found.by, found.reason, 1)
            return change.line(
                "withdrawal.lifted",
                model=what.name,
                version=what.version,
                why=reason,
                peer=by,
                withdrawn=found.sequence,
                signed_by=signed_by,
            )

        line = self._ledger.change(make)
        self._told(what.name)
        return line

    def listing(self, owner: str | None) -> list[Withdrawal]:
        """What is withdrawn of all models, or of this owner's; oldest first."""
        with self._ledger.looking() as look:
            mine = [name for name in look.names(WITHDRAWAL) if owner is None or _owner(look, name) == owner]
            found = [each for name in mine for each in in_force(look, name).values()]
        return sorted(found, key=lambda each: each.sequence)

    def _found(self, look: Look, owner: str | None, what: Withdrawn) -> tuple[Withdrawal, ModelSigners]:
        _check_owned(look, owner, what)
        found = in_force(look, what.name).get(what.version)
        if found is None:
            raise NotFound(f"{what} is not withdrawn", reason="withdrawal.unknown")
        return found, self._signers(look, what.name)

    def _check_order(self, order: bytes, found: Withdrawal, signers: ModelSigners) -> list[str]:
        generation = self._ledger.log.generation()
        wanted = lift_order(self._cluster, found.what, found.sequence, found.withdrawn_at_ms, generation)
        needed = f"a lift needs an order signed by {signers.threshold} of the model's {len(signers.keys)} signers"
        if not order:
            raise NotAllowed(f"{needed}; 'cloister revoke order' makes one", reason="withdrawal.lift_unsigned")
        try:
            said = dsse.verified(order, ORDER_TYPE, signers.keys, threshold=signers.threshold)
        except InvalidRequest as error:
            raise NotAllowed(
                f"{needed}: {error}; 'cloister revoke order' signs it once more", reason="withdrawal.lift_unsigned"
            ) from error
        if said != wanted:
            raise NotAllowed("the order is for another withdrawal", reason="withdrawal.lift_unsigned")
        return sorted(dsse.signers(order, ORDER_TYPE) & signers.keys)


def model_signers(cluster: str, look: Look, name: str) -> ModelSigners:
    """Who signs for a model now: followed from the key of its first registration."""
    row = look.get(MODEL, Key(name))
    if row is None:
        return ModelSigners(frozenset(), 1)
    envelopes = [envelope for (envelope,) in look.all(SIGNER_SET, name).values()]
    found = follow(row[1], envelopes, model_name=name, cluster=cluster)
    return ModelSigners(frozenset(found.keys), found.threshold)


def _owner(look: Look, name: str) -> object:
    row = look.get(MODEL, Key(name))
    return None if row is None else row[0]


def _check_owned(look: Look, owner: str | None, what: Withdrawn) -> None:
    known = _owner(look, what.name)
    if known is None or owner not in (None, known):
        raise NotFound("there is no such model" + (" of yours" if owner else ""))
    if what.version and what.version not in look.numbers(MODEL_VERSION, what.name):
        raise NotFound("there is no such version of this model")


def _went(look: Look, what: Withdrawn, now_ms: int) -> Going:
    found = [
        each
        for (name, version), each in leases.going(look, now_ms).items()
        if name == what.name and what.version in (0, version)
    ]
    return Going(sum(each.workers for each in found), max((each.until_ms for each in found), default=0))
