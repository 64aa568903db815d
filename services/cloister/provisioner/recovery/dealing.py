"""The recovery key: made here, dealt in shares to owners, and forgotten; what is kept has copies sealed to it.

Only its public key stays, so the copies open when the root key is lost, whatever kept it, and a new root key needs no
new shares. A dealing is one change of the ledger: key and copies of all secrets, or nothing. It takes an order: the
first one of all owners whose keys are kept, for an operator could else deal to himself, be it on an older copy of the
state; each one after it of as many holders of the present key as open it. Blocking: called off the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from cloister import dsse
from cloister.api.v1.recovery_pb2 import DealtShare, RecoveryDeal
from cloister.errors import InvalidRequest, NotAllowed, NotReady
from cloister.kit.recovery_cards import MAX_ORDERING, ORDER_TYPE, RecoveryCard, check_holders, deal_order
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.look import Look
from cloister.provisioner.ledger.tables import MODEL, RECOVERY_KEY, Key, Table
from cloister.provisioner.models.copy_check import NAME
from cloister.provisioner.models.kept_secrets import kept_keys, kept_secrets, put_copy
from cloister.provisioner.recovery.shares import split
from cloister.provisioner.vaults.keyring import Keyring
from cloister.seal.hpke import SEED_BYTES, XWING, KeyPair, key_id
from cloister.seal.keys import Secret
from cloister.seal.recovery import Share, seal_copy, seal_dealt

DEALT: Final = "recovery.dealt"
_COPIES_IN_A_LINE: Final = 100
Copies = dict[tuple[Table, Key], bytes]


class Dealt(NamedTuple):
    """What came of a dealing."""

    generation: int
    secrets: int
    sequence: int


class Recovery:
    """Deals recovery keys.

    Args:
        cluster: The mesh.
        ledger: What is kept.
        keyring: Opens it; makes copies from now on.
    """

    def __init__(self, *, cluster: str, ledger: Ledger, keyring: Keyring) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._keyring = keyring
        self._turn_to(self.present())

    def present(self) -> RecoveryDeal:
        """The dealing in force; of generation 0 where there was none."""
        with self._ledger.looking() as look:
            return dealing_in_force(look)

    def secrets(self) -> int:
        """How many secrets are kept."""
        with self._ledger.looking() as look:
            return len(kept_keys(look))

    def deal(self, envelopes: Sequence[bytes], threshold: int, order: bytes, *, by: str) -> Dealt:
        """Make a recovery key, deal its shares, and copy to it all that is kept.

        Args:
            envelopes: Cards of who is to hold them.
            threshold: How many it takes.
            order: Signed by holders of the present key; where there is none, by all owners of models.
            by: SPIFFE id of who asks.

        Raises:
            InvalidRequest: A card is none, or such shares cannot be dealt.
            NotAllowed: They have not ordered it (`recovery.unordered`).
            NotReady: Another was dealt meanwhile (`recovery.dealt`), or no owner has a model yet who could order the
                first (`recovery.ownerless`), or more than can sign one order (`recovery.too_many_owners`).
            SealBroken: What is kept is not as it was written (`store.altered`).
        """
        cards = [RecoveryCard.read(envelope, cluster=self._cluster) for envelope in envelopes]
        check_holders(cards, threshold)
        present = self.present()
        ordered_by = self._check_order(present, order, threshold, cards)
        deal = self._made(cards, threshold, present.generation + 1)
        deal.order = order
        copies: Copies = {}
        dealt = None
        while dealt is None:
            self._copy(deal, copies)
            dealt = self._ledger.change(lambda change: _put(change, deal, copies, cards, by, ordered_by))
        self._turn_to(deal)
        return dealt

    def _turn_to(self, deal: RecoveryDeal) -> None:
        if deal.generation:
            self._keyring.copies.turn_to(self._cluster, deal.generation, deal.public_key)

    def _check_order(
        self, present: RecoveryDeal, order: bytes, threshold: int, cards: Sequence[RecoveryCard]
    ) -> list[str]:
        """Who ordered it, by their keys in hex."""
        may, must, who = self._who_orders(present)
        if not may:
            raise NotReady(
                "no owner has registered a model yet, and owners say who holds the shares of the first recovery key",
                reason="recovery.ownerless",
            )
        if must > MAX_ORDERING:
            raise NotReady(
                f"{who}, and an order has at most {MAX_ORDERING} signatures: deal it before so many have registered",
                reason="recovery.too_many_owners",
            )
        try:
            said = dsse.verified(order, ORDER_TYPE, may, threshold=must, most=MAX_ORDERING)
            signers = dsse.signers(order, ORDER_TYPE, most=MAX_ORDERING) & may
        except InvalidRequest as error:
            raise _unordered(f"{who}: {error}") from error
        if said != deal_order(self._cluster, present.generation + 1, threshold, cards):
            raise NotAllowed("the order is for another dealing", reason="recovery.unordered")
        return sorted(signers)

    def _who_orders(self, present: RecoveryDeal) -> tuple[set[str], int, str]:
        """Whose signatures count, how many there must be, and the sentence that says so."""
        if not present.generation:
            with self._ledger.looking() as look:
                owners = _owner_keys(look)
            return owners, len(owners), f"the first recovery key takes an order of all {len(owners)} owners of models"
        holders = {RecoveryCard.read(share.card, cluster=self._cluster).signing_key for share in present.shares}
        said = f"another recovery key takes an order of {present.threshold} of its {len(holders)} present holders"
        return holders, present.threshold, said

    def _made(self, cards: Sequence[RecoveryCard], threshold: int, generation: int) -> RecoveryDeal:
        """A recovery key in shares; nothing else is left of it."""
        seed = Secret.random(SEED_BYTES)
        shares: list[Secret] = []
        try:
            deal = RecoveryDeal(
                generation=generation, threshold=threshold, public_key=KeyPair.from_seed(XWING, seed.view).public
            )
            shares = split(seed, threshold, len(cards))
            for index, (card, words) in enumerate(zip(cards, shares, strict=True)):
                share = Share(cluster=self._cluster, generation=generation, index=index, words=words)
                sealed = seal_dealt(card.public_key, share)
                deal.shares.append(DealtShare(card=card.envelope, sealed=sealed, commitment=share.commitment()))
        finally:
            seed.wipe()
            for words in shares:
                words.wipe()
        return deal

    def _copy(self, deal: RecoveryDeal, copies: Copies) -> None:
        """Make the copies that are not made yet."""
        with self._ledger.looking() as look:
            kept = [each for each in kept_secrets(look, self._cluster) if (each.table, each.key) not in copies]
        for each in kept:
            secret = self._keyring.unwrap(each.record, each.wrapped)
            aad, generation = each.record.aad(), deal.generation
            try:
                copy = seal_copy(deal.public_key, secret, aad, cluster=self._cluster, generation=generation)
            finally:
                secret.wipe()
            copies[each.table, each.key] = copy


def _put(
    change: Change,
    deal: RecoveryDeal,
    copies: Copies,
    cards: Sequence[RecoveryCard],
    by: str,
    ordered_by: Sequence[str],
) -> Dealt | None:
    """Put key and copies, with their line; None, and nothing, where a secret was kept meanwhile."""
    kept = kept_keys(change)
    if not copies.keys() >= set(kept):
        return None
    if change.newest(RECOVERY_KEY, NAME) != deal.generation - 1:
        raise NotReady("another recovery key was dealt at this moment", reason=DEALT)
    if deal.generation == 1 and not _owner_keys(change) <= set(ordered_by):
        raise _unordered("somebody has registered a model meanwhile, and has not ordered it")
    for put, (table, key) in enumerate(kept, 1):
        put_copy(change, table, key, copies[table, key])
        if put % _COPIES_IN_A_LINE == 0:
            change.line("recovery.copied", generation=deal.generation)
    if deal.generation > 1:
        change.delete(RECOVERY_KEY, Key(NAME, deal.generation - 1))
    change.put(RECOVERY_KEY, Key(NAME, deal.generation), deal.SerializeToString(deterministic=True))
    sequence = change.line(
        DEALT,
        generation=deal.generation,
        threshold=deal.threshold,
        holders=[card.owner for card in cards],
        signing_keys=[card.signing_key for card in cards],
        key_id=key_id(XWING, deal.public_key).hex(),
        secrets=len(kept),
        operator=by,
        ordered_by=list(ordered_by),
    )
    return Dealt(deal.generation, len(kept), sequence)


def _owner_keys(look: Look) -> set[str]:
    """The signing keys of all who have registered a model, in hex."""
    rows = (look.get(MODEL, Key(name)) for name in look.names(MODEL))
    return {row[1].hex() for row in rows if row is not None}


def _unordered(why: str) -> NotAllowed:
    return NotAllowed(f"{why}; 'cloister recovery order' makes and signs one", reason="recovery.unordered")


def dealing_in_force(look: Look) -> RecoveryDeal:
    """The dealing in force; of generation 0 where there was none; raises SealBroken (`store.altered`)."""
    generation = look.newest(RECOVERY_KEY, NAME)
    row = look.get(RECOVERY_KEY, Key(NAME, generation)) if generation else None
    return RecoveryDeal.FromString(row[0]) if row is not None else RecoveryDeal()
