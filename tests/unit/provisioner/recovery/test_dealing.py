"""A recovery key is dealt, and what was kept is restored by it: the provisioner's inside, without a network."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.api.v1.recovery_pb2 import RecoveryDeal
from cloister.errors import CloisterError, InvalidRequest, NotAllowed, NotReady, SealBroken, Unavailable
from cloister.kit.metrics import Metrics
from cloister.kit.recovery_cards import ORDER_TYPE, RecoveryCard, deal_order
from cloister.provisioner.ledger.database import NAME, Database
from cloister.provisioner.ledger.opening import opened
from cloister.provisioner.ledger.tables import EPOCH
from cloister.provisioner.models.epoch_store import StoredEpoch
from cloister.provisioner.models.kept_secrets import kept_secrets
from cloister.provisioner.recovery import dealing
from cloister.provisioner.recovery.attempts import RecoveryAttempts
from cloister.provisioner.recovery.dealing import Dealt, Recovery
from cloister.provisioner.recovery.recovering import Recovering, stored_deal
from cloister.provisioner.recovery.session import MOST_REFUSED, RecoverySession
from cloister.provisioner.recovery.shares import combined
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.root_key import RootKeyVault
from cloister.seal.hpke import XWING, KeyPair
from cloister.seal.keys import Secret
from cloister.seal.recovery import generation_of, open_copy, seal_copy
from fakes.recovery_holders import Holder, contribution, dealt, holders
from fakes.release_desk import MODEL_KEY, ReleaseDesk, open_ledger, release_desk, signed_manifest
from fakes.results import CLUSTER, MODEL

OPERATOR = f"spiffe://{CLUSTER}/operator/main"


def recovery(desk: ReleaseDesk) -> Recovery:
    return Recovery(cluster=CLUSTER, ledger=desk.ledger, keyring=desk.keyring)


def owners(*names: str) -> list[Holder]:
    return holders(*names, cluster=CLUSTER)


def first_order(desk: ReleaseDesk, of: list[Holder], *by: Ed25519PrivateKey) -> bytes:
    """Of the one owner whose model is kept, unless by others."""
    read = [RecoveryCard.read(each.card, cluster=CLUSTER) for each in of]
    return dsse.sign(deal_order(CLUSTER, 1, 2, read), ORDER_TYPE, by or [desk.owner])


def dealt_first(desk: ReleaseDesk, of: list[Holder], made: Recovery | None = None) -> Dealt:
    return (made or recovery(desk)).deal(cards(of), 2, first_order(desk, of), by=OPERATOR)


def cards(of: list[Holder]) -> list[bytes]:
    return [each.card for each in of]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ReleaseDesk]:
    with release_desk(tmp_path) as made:
        yield made


async def released(desk: ReleaseDesk) -> None:
    """The model's key to the worker, which begins an epoch."""
    await desk.releaser.release(desk.request(), desk.worker.peer())


def copies(desk: ReleaseDesk) -> dict[str, bytes]:
    with desk.ledger.looking() as look:
        return {each.table.called(each.key): each.copy for each in kept_secrets(look, CLUSTER)}


async def test_all_that_is_kept_has_a_copy_from_then_on(desk: ReleaseDesk) -> None:
    await released(desk)
    assert set(copies(desk).values()) == {b""}
    made = dealt_first(desk, owners())
    assert (made.generation, made.secrets) == (1, 3)
    desk.register(version=3)
    found = copies(desk)
    assert {name.partition("/")[0] for name in found} == {"log_key", "model_version", "epoch"}
    assert {generation_of(copy) for copy in found.values()} == {1}
    assert len(found) == 4
    await released(desk)


def test_the_shares_give_the_key_and_the_log_says_who_has_them(desk: ReleaseDesk) -> None:
    three = owners()
    dealt_first(desk, three)
    deal = recovery(desk).present()
    assert {each.share(deal).commitment() for each in three} == {share.commitment for share in deal.shares}
    told = desk.entries()[-1]
    assert (told["event"], told["generation"], told["threshold"], told["operator"]) == (
        "recovery.dealt",
        1,
        2,
        OPERATOR,
    )
    assert told["signing_keys"] == [each.signing_key for each in three]
    assert told["holders"] == [f"spiffe://{CLUSTER}/owner/{each.name}" for each in three]
    words = [each.share(deal).words.reveal() for each in three]
    assert not any(part in (desk.folder / NAME).read_bytes() for part in words)
    (mine,) = desk.registry.audit(f"spiffe://{CLUSTER}/owner/nobody")
    assert [entry.sequence for entry in mine] == [told["sequence"]], "every owner is told who can open their keys"


@pytest.mark.attack("F12")
def test_another_key_takes_an_order_of_the_present_holders(desk: ReleaseDesk) -> None:
    present, after = owners(), owners("dan", "erin")
    made = recovery(desk)
    dealt_first(desk, present, made)
    read = [RecoveryCard.read(each.card, cluster=CLUSTER) for each in after]
    wanted = deal_order(CLUSTER, 2, 2, read)
    stranger = owners("mallory")[0]

    def signed(payload: bytes, *by: Holder) -> bytes:
        return dsse.sign(payload, ORDER_TYPE, [each.key for each in by])

    for order in (
        b"",
        signed(wanted, present[0]),
        signed(wanted, present[0], stranger),
        signed(wanted, *after),
        signed(deal_order(CLUSTER, 3, 2, read), *present),
        signed(deal_order(CLUSTER, 2, 2, read[::-1][:1]), *present),
    ):
        with pytest.raises(NotAllowed) as refused:
            made.deal(cards(after), 2, order, by=OPERATOR)
        assert refused.value.reason == "recovery.unordered"
    before = copies(desk)
    order = signed(wanted, present[2], present[0])
    assert made.deal(cards(after), 2, order, by=OPERATOR).generation == 2
    assert desk.entries()[-1]["ordered_by"] == sorted([present[0].signing_key, present[2].signing_key])
    assert {generation_of(copy) for copy in copies(desk).values()} == {2}
    assert not set(before.values()) & set(copies(desk).values())
    with pytest.raises(NotAllowed):
        made.deal(cards(after), 2, order, by=OPERATOR)  # an order serves once


@pytest.mark.attack("F12")
def test_the_first_takes_an_order_of_all_whose_keys_it_opens(desk: ReleaseDesk) -> None:
    """Cards are signed by whoever makes them: an operator alone could deal to himself, and open what is on the disk."""
    mine, other = owners(), Ed25519PrivateKey.generate()
    signed = signed_manifest(other, name="other", version=1)
    desk.registry.register(f"spiffe://{CLUSTER}/owner/bob", *signed, MODEL_KEY)
    made = recovery(desk)
    for order in (
        b"",
        first_order(desk, mine),
        first_order(desk, mine, other),
        first_order(desk, mine, *(each.key for each in mine)),
        first_order(desk, mine[:2], desk.owner, other),
    ):
        with pytest.raises(NotAllowed) as refused:
            made.deal(cards(mine), 2, order, by=OPERATOR)
        assert refused.value.reason == "recovery.unordered"
    assert set(copies(desk).values()) == {b""}
    made.deal(cards(mine), 2, first_order(desk, mine, desk.owner, other), by=OPERATOR)
    owner_keys = [each.public_key().public_bytes_raw().hex() for each in (desk.owner, other)]
    assert desk.entries()[-1]["ordered_by"] == sorted(owner_keys)


@pytest.mark.attack("F12")
def test_whose_key_came_while_it_was_dealt_has_not_ordered_it(desk: ReleaseDesk) -> None:
    mine, unwrap = owners(), desk.keyring.unwrap

    def unwrapped(record: Any, wrapped: Any) -> Secret:
        desk.keyring.unwrap = unwrap  # type: ignore[method-assign]
        signed = signed_manifest(Ed25519PrivateKey.generate(), name="late", version=1)
        desk.registry.register(f"spiffe://{CLUSTER}/owner/bob", *signed, MODEL_KEY)
        return unwrap(record, wrapped)

    desk.keyring.unwrap = unwrapped  # type: ignore[method-assign]
    with pytest.raises(NotAllowed, match="meanwhile"):
        dealt_first(desk, mine)
    assert set(copies(desk).values()) == {b""}


@pytest.mark.attack("F12")
def test_the_first_order_takes_as_many_owners_as_there_are(desk: ReleaseDesk) -> None:
    """More than an envelope has signatures elsewhere, each of whom has registered a model."""
    three = owners()
    others = [Ed25519PrivateKey.generate() for _ in range(dsse.MAX_SIGNATURES)]
    for number, key in enumerate(others):
        name, signed = f"m{number}", signed_manifest(key, name=f"m{number}", version=1)
        owner = f"spiffe://{CLUSTER}/owner/o{number}"
        desk.registry.register(owner, signed.manifest, signed.signature, signed.public_key, MODEL_KEY)
        assert desk.store.owner(name) is not None
    with pytest.raises(NotAllowed, match="of all 65 owners"):
        recovery(desk).deal(cards(three), 2, first_order(desk, three, *others), by=OPERATOR)
    order = first_order(desk, three, desk.owner, *others)
    assert recovery(desk).deal(cards(three), 2, order, by=OPERATOR).generation == 1


def test_more_owners_than_can_sign_one_order_are_told_so(desk: ReleaseDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dealing, "MAX_ORDERING", 0)
    with pytest.raises(NotReady, match="deal it before so many") as refused:
        dealt_first(desk, owners())
    assert refused.value.reason == "recovery.too_many_owners"


def test_an_operator_does_not_deal_before_there_is_an_owner(tmp_path: Path) -> None:
    """Whoever registers afterwards would have keys wrapped for him."""
    with open_ledger(tmp_path) as ledger:
        made = recovery(ReleaseDesk(tmp_path, ledger))
        with pytest.raises(NotReady) as refused:
            made.deal(cards(owners()), 2, b"", by=OPERATOR)
        assert refused.value.reason == "recovery.ownerless"
        assert made.present().generation == 0


def test_holders_that_do_not_fit_are_refused(desk: ReleaseDesk) -> None:
    made = recovery(desk)
    for envelopes, threshold in (([], 1), (cards(owners()), 1), (cards(owners()), 4), ([b"{}"], 1)):
        with pytest.raises(InvalidRequest):
            made.deal(envelopes, threshold, b"", by=OPERATOR)
    assert made.present().generation == 0
    assert set(copies(desk).values()) == {b""}


def test_what_was_wrapped_before_a_dealing_is_not_kept_after_it(desk: ReleaseDesk) -> None:
    made = recovery(desk)
    late = desk.keyring.wrap
    wrapped: list[Any] = []

    def wrap(record: Any, secret: Secret) -> Any:
        wrapped.append(late(record, secret))
        dealt_first(desk, owners(), made)
        return wrapped[0]

    desk.keyring.wrap = wrap  # type: ignore[method-assign]
    with pytest.raises(NotReady) as refused:
        desk.register(version=3)
    assert refused.value.reason == "recovery.dealt"
    desk.keyring.wrap = late  # type: ignore[method-assign]
    desk.register(version=3)


def test_what_is_kept_while_copies_are_made_gets_one_too(desk: ReleaseDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = recovery(desk), desk.ledger.change
    late = [3]

    def change(make: Any) -> Any:
        if late and "Recovery.deal" in make.__qualname__:
            desk.register(version=late.pop())
        return asked(make)

    monkeypatch.setattr(desk.ledger, "change", change)
    assert dealt_first(desk, owners(), made).secrets == 3
    assert {generation_of(copy) for copy in copies(desk).values()} == {1}


# A root key that is lost


class Lost:
    """A provisioner that has started with another root key than all lies under."""

    def __init__(self, database: Database) -> None:
        self.keyring = Keyring([RootKeyVault(Secret(b"n" * 32))])
        self.metrics = Metrics()
        deal = stored_deal(database)
        assert deal is not None
        self.deal = deal
        self.recovering = Recovering(
            cluster=CLUSTER, database=database, deal=deal, keyring=self.keyring, metrics=self.metrics
        )

    def give(self, holder: Holder, **changes: object) -> Any:
        session = self.recovering.begin(OPERATOR)
        sealed = contribution(session.session_id, session.public_key, holder.share(self.deal), **changes)
        return self.recovering.contribute(holder.name, session.session_id, sealed)

    def refused(self, reason: str) -> float:
        label = {"reason": reason}
        return self.metrics.registry.get_sample_value("cloister_recovery_shares_refused_total", label) or 0.0


@pytest.fixture
async def three(tmp_path: Path) -> list[Holder]:
    """Two of these three open what lies in the folder: a model that was released, and an epoch."""
    made = owners()
    with release_desk(tmp_path) as desk:
        await released(desk)
        dealt_first(desk, made)
    return made


@pytest.fixture
def lost(tmp_path: Path, three: list[Holder]) -> Iterator[Lost]:
    with Database.opened(tmp_path / NAME) as database:
        yield Lost(database)


def test_enough_owners_restore_everything(tmp_path: Path, lost: Lost, three: list[Holder]) -> None:
    alice, _, carol = three
    assert lost.give(carol).missing == 1
    state = lost.recovering.state()
    assert (state.root_lost, list(state.session.given), state.secrets) == (True, [2], 3)
    answer = lost.give(alice)
    assert (answer.restored, answer.secrets) == (True, 3)
    with Database.opened(tmp_path / NAME) as database:
        assert database.root_key_ids() == {lost.keyring.wrapping_id}
        with opened(database, lost.keyring, cluster=CLUSTER) as ledger, ledger.looking() as look:
            kept = {each.table.name: each for each in kept_secrets(look, CLUSTER)}
            model = kept["model_version"]
            assert lost.keyring.unwrap(model.record, model.wrapped) == MODEL_KEY
            assert {generation_of(each.copy) for each in kept.values()} == {1}
        again = Recovery(cluster=CLUSTER, ledger=ledger, keyring=lost.keyring)
        assert again.present() == lost.deal, "the shares serve on"


def told(folder: Path, keyring: Keyring) -> list[dict[str, Any]]:
    with Database.opened(folder / NAME) as database, opened(database, keyring, cluster=CLUSTER) as ledger:
        lines = [json.loads(entry.record) for entry in ledger.log.records()]
    return [line for line in lines if line["event"].startswith("recovery.")]


@pytest.mark.attack("F12")
def test_what_was_refused_is_counted_and_on_the_log(tmp_path: Path, lost: Lost, three: list[Holder]) -> None:
    alice, bob, _ = three
    lost.give(alice)
    for reason, holder, changes in (
        ("share.given", alice, {}),
        ("share.of_other_generation", bob, {"generation": 7}),
        ("share.of_other_mesh", bob, {"cluster": "other.cloister.internal"}),
        ("share.malformed", bob, {"words": Secret(b"academic acid")}),
        ("share.wrong", bob, {"words": alice.share(lost.deal).words}),
    ):
        with pytest.raises(InvalidRequest) as refused:
            lost.give(holder, **changes)
        assert (refused.value.reason, lost.refused(reason)) == (reason, 1.0)
    assert lost.give(bob).restored
    lines = told(tmp_path, lost.keyring)
    assert [line["event"] for line in lines] == [
        *("recovery.dealt", "recovery.begun", "recovery.share_given"),
        *["recovery.refused"] * 5,
        *("recovery.share_given", "recovery.restored"),
    ]
    assert lines[-1]["given_by"] == ["alice", "bob"]
    assert lines[-1]["to_root"] == lost.keyring.wrapping_id
    assert lines[3]["by"] == "alice"
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        assert connection.execute("SELECT count(*) FROM recovery_attempt").fetchone() == (0,)


@pytest.mark.attack("F12")
def test_too_many_refusals_end_the_session_and_are_remembered(tmp_path: Path, lost: Lost) -> None:
    session = lost.recovering.begin(OPERATOR)
    for _ in range(MOST_REFUSED):
        with pytest.raises(InvalidRequest):
            lost.recovering.contribute("mallory", session.session_id, b"guess")
    with pytest.raises(CloisterError) as paused:
        lost.recovering.begin(OPERATOR)
    assert paused.value.reason == "recovery.paused"
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        (noted,) = connection.execute("SELECT noted FROM recovery_attempt ORDER BY id DESC LIMIT 1").fetchone()
    assert "recovery.too_many_refused" in noted


@pytest.mark.attack("F09")
def test_a_copy_that_was_put_into_the_state_is_not_restored(tmp_path: Path, lost: Lost, three: list[Holder]) -> None:
    """Whoever has the disk seals an epoch seed of their own to the recovery key, and waits for the root to be lost."""
    with Database.opened(tmp_path / NAME) as database, closing(database.writing.cursor()) as cursor:
        (owner_key,) = cursor.execute("SELECT owner_key FROM model WHERE name = ?", (MODEL,)).fetchone()
        record = StoredEpoch(*cursor.execute(EPOCH.selected).fetchone()).record_id(owner_key).aad()
        theirs = seal_copy(lost.deal.public_key, Secret(b"e" * 32), record, cluster=CLUSTER, generation=1)
        cursor.execute("UPDATE epoch SET recovery_copy = ?", (theirs,))
    lost.give(three[0])
    with pytest.raises(SealBroken) as refused:
        lost.give(three[1])
    assert refused.value.reason == "store.altered"
    assert lost.recovering.state().root_lost
    with Database.opened(tmp_path / NAME) as database:
        assert lost.keyring.wrapping_id not in database.root_key_ids(), "nothing, rather than a part"


@pytest.mark.attack("F12")
def test_a_deal_that_was_put_into_the_state_lets_nothing_out(tmp_path: Path, three: list[Holder]) -> None:
    """Another key's deal, to the same owners: its shares are theirs, and open nothing."""
    forged, _ = dealt(three, cluster=CLUSTER)
    with Database.opened(tmp_path / NAME) as database:
        database.writing.execute("UPDATE recovery_key SET deal = ?", (forged.SerializeToString(),))
        lost = Lost(database)
        lost.give(three[0])
        with pytest.raises(SealBroken):
            lost.give(three[1])


@pytest.mark.parametrize("change", ["threshold", "shares", "bytes"])
def test_a_deal_that_is_none_is_said_to_be_altered(tmp_path: Path, three: list[Holder], change: str) -> None:
    deal, _ = dealt(three, cluster=CLUSTER)
    if change == "threshold":
        deal.threshold = 0
    elif change == "shares":
        del deal.shares[:]
    raw = b"\xff" if change == "bytes" else deal.SerializeToString()
    with Database.opened(tmp_path / NAME) as database:
        database.writing.execute("UPDATE recovery_key SET deal = ?", (raw,))
        with pytest.raises(NotReady) as refused:
            stored_deal(database)
    assert refused.value.reason == "store.altered"


def test_a_seed_is_overwritten_though_nothing_can_be_noted(
    lost: Lost, three: list[Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost.give(three[0])
    seeds: list[Secret] = []
    seed = RecoverySession.seed

    def kept(session: RecoverySession) -> Secret:
        seeds.append(seed(session))
        return seeds[-1]

    def full(*_: object, **__: object) -> None:
        raise Unavailable("the disk is full", reason="record.unavailable")

    session = lost.recovering.begin(OPERATOR)
    monkeypatch.setattr(RecoverySession, "seed", kept)
    monkeypatch.setattr(RecoveryAttempts, "add", full)
    sealed = contribution(session.session_id, session.public_key, three[1].share(lost.deal))
    with pytest.raises(Unavailable):
        lost.recovering.contribute("bob", session.session_id, sealed)
    assert [set(each.view) for each in seeds] == [{0}]


def test_copies_open_with_the_seed_alone(tmp_path: Path, three: list[Holder]) -> None:
    """What the guide says of holders: enough of them, with a copy of the state, need no provisioner."""
    with Database.opened(tmp_path / NAME) as database:
        deal = stored_deal(database) or RecoveryDeal()
    seed = combined([each.share(deal).words for each in three[:2]])
    pair = KeyPair.from_seed(XWING, seed.view)
    with open_ledger(tmp_path) as ledger, ledger.looking() as look:
        (model,) = [each for each in kept_secrets(look, CLUSTER) if each.table.name == "model_version"]
    assert open_copy(pair, model.copy, model.record.aad(), cluster=CLUSTER, generation=1) == MODEL_KEY
