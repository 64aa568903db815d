"""A state that was put back: not served, and gone on with on purpose only (attacks F09, H07)."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloister import dsse
from cloister.errors import InvalidRequest, KeyRefused, NotAllowed, NotReady, Unavailable
from cloister.kit.audit import AuditLog
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log_origin import RESUMED
from cloister.kit.metrics import Metrics
from cloister.kit.revocation import ORDER_TYPE
from cloister.kit.server import Health
from cloister.kit.signed_policy import POLICY_TYPE
from cloister.kit.signer_set import SIGNER_SET_TYPE
from cloister.kit.withdrawal import Withdrawn, lift_order
from cloister.provisioner import serving
from cloister.provisioner.leasing.withdrawals import Withdrawals, model_signers
from cloister.provisioner.ledger.database import NAME
from cloister.provisioner.serving import served
from cloister.provisioner.witnesses import witnessing
from cloister.provisioner.witnesses.freshness import Freshness
from cloister.provisioner.witnesses.link import WitnessLink
from cloister.provisioner.witnesses.resuming import Asked, Resuming
from cloister.provisioner.witnesses.witnessing import Witnessing
from fakes.release_desk import OWNER, ReleaseDesk, open_ledger
from fakes.results import CLUSTER, MODEL, Clock
from fakes.shown_log import opened_witness
from fakes.signer_sets import ALICE, BOB, CAROL, DAVE, set_policy, signed_set, signer_set
from fakes.signer_sets import OWNER as OWNER_KEY
from fakes.verifier_at_hand import VerifierAtHand

OPERATOR = f"spiffe://{CLUSTER}/operator/olga"


class Site:
    """One state folder, and the verifier that witnesses what is done in it."""

    def __init__(self, folder: Path, verifier: VerifierAtHand, clock: Clock) -> None:
        self.folder = folder
        self.verifier = verifier
        self.clock = clock
        self.owner: Any = None

    def keep_copy(self, name: str) -> None:
        """As a backup does, of a provisioner that is stopped."""
        shutil.copy(self.folder / NAME, self.folder.parent / name)

    def put_back(self, name: str) -> None:
        """A copy in the place of the state."""
        for path in self.folder.glob(f"{NAME}*"):
            path.unlink()
        shutil.copy(self.folder.parent / name, self.folder / NAME)


class Running:
    """The inside of a provisioner that runs there."""

    def __init__(self, desk: ReleaseDesk, freshness: Freshness, resuming: Resuming, witnessed: Witnessing) -> None:
        self.desk = desk
        self.freshness = freshness
        self.resuming = resuming
        self.witnessed = witnessed
        self.log = desk.ledger.log

    async def line(self, event: str = "e") -> None:
        """A line, countersigned."""
        await self.witnessed.witnessed(await self.desk.ledger.appended(event))

    async def resume(self, have: int, should: int, reason: str = "the disk was lost") -> Any:
        """As the operator asks."""
        return await self.resuming.resume(Asked(have, should, reason, OPERATOR))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(witnessing, "RENEW_S", 0.01)
    monkeypatch.setattr(serving, "START_S", 30.0)
    (tmp_path / "v").mkdir()
    (tmp_path / "p").mkdir()
    clock = Clock()
    with (
        AuditLog.opened(tmp_path / "audit.db") as audit,
        opened_witness(tmp_path / "v", audit, monotonic=clock) as witness,
    ):
        yield Site(tmp_path / "p", VerifierAtHand(witness), clock)


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Running]:
    """A provisioner on the state as it is there."""
    verifier: Any = site.verifier
    link = WitnessLink(verifier, b"w" * 16, monotonic=site.clock)
    witnessed = Witnessing([link], metrics=Metrics(), monotonic=site.clock)
    with open_ledger(site.folder) as ledger:
        freshness = Freshness(ledger.log, witnessed.heads, witnessed.overtaken)
        desk = ReleaseDesk(site.folder, ledger, **({"owner": site.owner} if site.owner else {}))
        site.owner = desk.owner
        made = Running(desk, freshness, Resuming(ledger, freshness, witnessed.witnessed), witnessed)
        async with Lifecycle.running() as lifecycle, served(ledger, freshness, witnessed, Health(lifecycle), lifecycle):
            yield made


@pytest.fixture
async def stale(site: Site) -> Site:
    """The state of four lines, where six were countersigned; the fifth took somebody's rights away."""
    async with running(site) as now:
        await asyncio.to_thread(now.desk.register)
        await asyncio.to_thread(now.desk.allow)
        await now.line()
    site.keep_copy("monday")
    async with running(site) as now:
        await asyncio.to_thread(now.desk.allow, version=2, allow_simulated=False)
        await now.line()
    site.keep_copy("tuesday")
    site.put_back("monday")
    return site


async def test_a_state_that_has_all_that_was_countersigned_is_served(site: Site) -> None:
    for number in range(3):
        async with running(site) as now:
            now.freshness.check()
            await now.line()
            assert now.log.size() == number + 2


@pytest.mark.attack("F09")
@pytest.mark.attack("H07")
async def test_a_state_from_an_older_copy_serves_nothing_and_says_what_it_lacks(stale: Site) -> None:
    async with running(stale) as now:
        for _ in range(2):
            with pytest.raises(NotReady, match=r"ends with line 4, .* up to line 6") as refused:
                now.freshness.check()
            assert refused.value.reason == "state.stale"
        with pytest.raises(NotReady):
            now.desk.allow(version=3)
        with pytest.raises(NotReady):
            await now.desk.releaser.release(now.desk.request(), now.desk.worker.peer())
        assert now.log.size() == 4


@pytest.mark.attack("F09")
@pytest.mark.attack("H07")
async def test_a_state_whose_lines_are_others_than_were_countersigned_is_forked(stale: Site) -> None:
    """As where somebody runs on with a copy, apart from its witness, and comes back when it is long enough."""
    with open_ledger(stale.folder) as alone:
        for _ in range(7):
            alone.append("elsewhere")
    async with running(stale) as now:
        with pytest.raises(NotReady, match="others than its witnesses countersigned") as refused:
            now.freshness.check()
        assert refused.value.reason == "state.forked"
        assert (await now.resume(11, 6)).generation == 2
        await now.line()


async def test_until_a_witness_answers_nothing_is_served(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "START_S", 0.0)
    site.verifier.up = False
    async with running(site) as now:
        with pytest.raises(NotReady) as refused:
            now.freshness.check()
        assert refused.value.reason == "witness.behind"
        site.verifier.up = True
        await asyncio.wait_for(now.freshness.confirmed(), 30)
        now.freshness.check()


async def test_going_on_owns_up_to_what_is_lost_and_the_witness_goes_along(stale: Site) -> None:
    async with running(stale) as now:
        outcome = await now.resume(4, 6, " backup of Monday ")
        assert (outcome.sequence, outcome.generation) == (5, 2)
        line = json.loads(now.log.line(5))
        assert line["event"] == RESUMED
        assert (line["have_size"], line["should_size"], line["old_origin"]) == (4, 6, f"{CLUSTER}/provisioner/1")
        assert (line["by"], line["reason"]) == (OPERATOR, "backup of Monday")
        assert json.loads(now.log.line(6)) | {"model": MODEL, "generation": 2} == json.loads(now.log.line(6))
        await now.line()
    async with running(stale) as now:
        now.freshness.check()
        assert (now.log.generation(), now.log.resumed()) == (2, 5)


async def test_it_is_done_once_however_often_it_is_asked(stale: Site) -> None:
    async with running(stale) as now:
        first = await now.resume(4, 6)
        assert await now.resume(4, 6) == first
        assert [json.loads(each.record)["event"] for each in now.log.records()].count(RESUMED) == 1


@pytest.mark.attack("F09")
async def test_a_resumption_that_the_witness_will_not_take_is_made_again(stale: Site, tmp_path: Path) -> None:
    """The newer state turned up meanwhile, and went on: the copy that was resumed owns up to too little."""
    verifier: Any = stale.verifier
    unheard = Witnessing(
        [WitnessLink(verifier, b"u" * 16, monotonic=stale.clock)], metrics=Metrics(), monotonic=stale.clock
    )
    with open_ledger(stale.folder) as ledger:
        freshness = Freshness(ledger.log, unheard.heads, asyncio.Event())
        await Resuming(ledger, freshness, never_shown).resume(Asked(4, 6, "the disk was lost", OPERATOR))
    stale.keep_copy("resumed")
    stale.put_back("tuesday")
    async with running(stale) as now:
        await now.line()
    stale.put_back("resumed")
    async with running(stale) as now:
        with pytest.raises(NotReady, match=r"ends with line 6, .* up to line 7") as refused:
            now.freshness.check()
        assert refused.value.reason == "state.stale"
        assert (await now.resume(6, 7)).generation == 2
        await now.line()
    async with running(stale) as now:
        now.freshness.check()


async def never_shown(_sequence: int) -> None:
    """The provisioner was killed before it showed its line to anybody."""


@pytest.mark.parametrize(("have", "should"), [(0, 0), (4, 5), (3, 6)])
async def test_who_has_not_seen_what_is_lost_is_told_first(stale: Site, have: int, should: int) -> None:
    async with running(stale) as now:
        with pytest.raises(NotReady, match="--have 4 --should 6") as refused:
            await now.resume(have, should)
        assert refused.value.reason == "state.other"
        assert now.log.size() == 4


async def test_a_state_that_lacks_nothing_is_not_resumed(site: Site) -> None:
    async with running(site) as now:
        await now.line()
        with pytest.raises(NotReady) as refused:
            await now.resume(2, 2)
        assert (refused.value.reason, now.log.generation()) == ("state.fresh", 1)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
async def test_who_goes_on_says_why(stale: Site, reason: str) -> None:
    async with running(stale) as now:
        with pytest.raises(InvalidRequest):
            await now.resume(4, 6, reason)


async def test_without_an_answer_of_its_witness_no_state_is_resumed(stale: Site) -> None:
    async with running(stale) as now:
        stale.verifier.up = False
        with pytest.raises(Unavailable):
            await now.resume(4, 6)
        assert now.log.size() == 4


@pytest.mark.attack("F09")
async def test_after_it_nobody_but_the_owner_brings_a_policy_back(stale: Site) -> None:
    """Neither the one in the older copy, nor one that was lost and that somebody still has, with its signature."""
    async with running(stale) as now:
        desk = now.desk
        await now.resume(4, 6)
        await now.line()
        with pytest.raises(KeyRefused):
            await desk.releaser.release(desk.request(), desk.worker.peer())
        assert desk.entries()[-1]["reason"] == "model.held"
        with pytest.raises(NotReady) as refused:
            await asyncio.to_thread(desk.allow, version=2)
        assert refused.value.reason == "model.held"
        with pytest.raises(NotReady):
            await asyncio.to_thread(desk.allow, version=2, log_generation=1)
        await asyncio.to_thread(desk.allow, version=2, log_generation=2)
        assert desk.registry.held() == {}
        await desk.releaser.release(desk.request(), desk.worker.peer())


@pytest.mark.attack("C08")
@pytest.mark.attack("F09")
async def test_a_lost_policy_of_a_higher_version_is_refused_though_its_owner_has_signed_since(stale: Site) -> None:
    async with running(stale) as now:
        await now.resume(4, 6)
        await now.line()
        await asyncio.to_thread(now.desk.allow, version=2, log_generation=2)
        with pytest.raises(NotReady, match="draft it anew") as refused:
            await asyncio.to_thread(now.desk.allow, version=3)
        assert refused.value.reason == "model.held"
        await asyncio.to_thread(now.desk.allow, version=3, log_generation=2)
    async with running(stale) as now:
        assert now.desk.registry.held() == {}
        with pytest.raises(NotReady):
            await asyncio.to_thread(now.desk.allow, version=4)


@pytest.mark.attack("F09")
async def test_nor_is_one_of_a_model_that_was_lost_whole_and_is_registered_anew(stale: Site) -> None:
    async with running(stale) as now:
        await now.resume(4, 6)
        await now.line()
        await asyncio.to_thread(now.desk.register, name="lost", version=1)
        assert now.desk.registry.held() == {MODEL: 2, "lost": 2}
        with pytest.raises(NotReady) as refused:
            await asyncio.to_thread(now.desk.allow, model_name="lost")
        assert refused.value.reason == "model.held"
        await asyncio.to_thread(now.desk.allow, model_name="lost", log_generation=2)
        assert now.desk.registry.held() == {MODEL: 2}


@pytest.mark.attack("F09")
async def test_signers_whom_the_lost_lines_removed_decide_nothing_without_the_owner(site: Site) -> None:
    """ALICE was removed; by the copy that was put back she and BOB sign for the model, and for who comes next."""
    site.owner = OWNER_KEY
    lost = signed_set(signer_set(2, 2, BOB, CAROL, DAVE), ALICE, BOB, CAROL)
    async with running(site) as now:
        await asyncio.to_thread(now.desk.register)
        first = signed_set(signer_set(1, 2, ALICE, BOB, CAROL), OWNER_KEY, ALICE, BOB)
        await asyncio.to_thread(now.desk.registry.set_signers, OWNER, first)
    site.keep_copy("monday")
    async with running(site) as now:
        await asyncio.to_thread(now.desk.registry.set_signers, OWNER, lost)
        await now.line()
    site.put_back("monday")
    async with running(site) as now:
        await now.resume(3, 5)
        registry, theirs = now.desk.registry, signed_set(signer_set(2, 1, ALICE), ALICE, BOB)
        policy, by_removed = set_policy(1, [ALICE, BOB], version=1, log_generation=2)
        for wanted in (
            lambda: registry.set_policy(OWNER, policy, by_removed),
            lambda: registry.set_signers(OWNER, theirs),
        ):
            with pytest.raises(InvalidRequest, match="the key that registered it must sign this too") as refused:
                await asyncio.to_thread(wanted)
            assert refused.value.reason == "signature.insufficient"
        await asyncio.to_thread(registry.set_signers, OWNER, dsse.countersigned(lost, SIGNER_SET_TYPE, OWNER_KEY))
        policy, by_set = set_policy(2, [BOB, DAVE], version=1, log_generation=2)
        await asyncio.to_thread(registry.set_policy, OWNER, policy, dsse.countersigned(by_set, POLICY_TYPE, OWNER_KEY))
        assert registry.held() == {}
        await asyncio.to_thread(registry.set_policy, OWNER, *set_policy(2, [BOB, DAVE], version=2, log_generation=2))


@pytest.mark.attack("F09")
@pytest.mark.attack("J14")
async def test_an_order_from_before_the_loss_gives_nothing_back(site: Site) -> None:
    """It was lifted, and withdrawn again; by the copy that was put back it is withdrawn as it was at first."""
    site.owner, all_of_it = OWNER_KEY, Withdrawn(MODEL)
    async with running(site) as now:
        await asyncio.to_thread(now.desk.register)
        sequence, _ = await asyncio.to_thread(withdrawing(now).withdraw, OWNER, all_of_it, reason="a doubt", by=OWNER)
        (found,) = withdrawing(now).listing(OWNER)
        order = partial(lift_order, CLUSTER, all_of_it, sequence, found.withdrawn_at_ms)
        old, new = (dsse.sign(each, ORDER_TYPE, [OWNER_KEY]) for each in (order(), order(2)))
    site.keep_copy("monday")
    async with running(site) as now:
        lift = partial(withdrawing(now).lift, OWNER, all_of_it, reason="over", by=OWNER)
        await asyncio.to_thread(lift, order=old)
        await asyncio.to_thread(withdrawing(now).withdraw, OWNER, all_of_it, reason="after all", by=OWNER)
        await now.line()
    site.put_back("monday")
    async with running(site) as now:
        await now.resume(3, 6)
        lift = partial(withdrawing(now).lift, OWNER, all_of_it, reason="over", by=OWNER)
        with pytest.raises(NotReady) as held:
            await asyncio.to_thread(lift, order=new)
        assert held.value.reason == "model.held"
        await asyncio.to_thread(now.desk.allow, version=1, log_generation=2)
        with pytest.raises(NotAllowed, match="for another withdrawal"):
            await asyncio.to_thread(lift, order=old)
        await asyncio.to_thread(lift, order=new)


def withdrawing(now: Running) -> Withdrawals:
    """What its owner withdraws, and gives back."""
    signers = partial(model_signers, CLUSTER)
    return Withdrawals(
        cluster=CLUSTER, ledger=now.desk.ledger, signers=signers, told=lambda _name: None, now=lambda: now.desk.now
    )


async def test_a_state_from_before_it_is_stale_again(stale: Site) -> None:
    async with running(stale) as now:
        await now.resume(4, 6)
        await now.line()
    stale.put_back("monday")
    async with running(stale) as now:
        with pytest.raises(NotReady) as refused:
            now.freshness.check()
        assert refused.value.reason == "state.stale"
        assert (await now.resume(4, 7)).generation == 3
        assert now.desk.registry.held() == {MODEL: 3}


async def test_two_that_go_on_from_one_copy_do_not_both(stale: Site) -> None:
    """The witness goes along with the first; the other one is a fork."""
    elsewhere = Site(stale.folder.parent / "elsewhere", stale.verifier, stale.clock)
    shutil.copytree(stale.folder, elsewhere.folder)
    async with running(stale) as now:
        await now.resume(4, 6)
        await now.line()
    async with running(elsewhere) as other:
        with pytest.raises(NotReady) as refused:
            await other.resume(4, 6)
        assert refused.value.reason == "state.other"
