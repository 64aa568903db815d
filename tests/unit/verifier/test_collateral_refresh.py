from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cloister.appraisal.body import Tee
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.family import Family, PckCa
from cloister.errors import CloisterError, NotReady, Unavailable
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.pcs import Wanted
from cloister.verifier.collateral_files import FetchedFile
from cloister.verifier.collateral_refresh import MAX_UNKNOWN, Pace, Refresher
from cloister_simulator.platform import Platform
from fakes.held_collateral import HeldCollateral, family_of, other_family
from fakes.results import Clock

LATER = timedelta(days=1)


@dataclass
class Service:
    """A source that answers for the platforms it knows; `down` is what is wrong with it."""

    platforms: list[Platform] = field(default_factory=list)
    asked: list[list[Wanted]] = field(default_factory=list)
    down: CloisterError | None = None

    def __post_init__(self) -> None:
        self.heard = asyncio.Event()

    async def fetch(self, wanted: Sequence[Wanted]) -> Mapping[Wanted, bytes | CloisterError]:
        self.asked.append(list(wanted))
        self.heard.set()
        known = {one.fmspc.hex(): one.collateral() for one in self.platforms}
        lost = self.down or Unavailable("pcs.test: no such family")
        return {one: lost if self.down else known.get(one.fmspc, lost) for one in wanted}


@dataclass
class Desk:
    """A refresher with all that it needs."""

    held: HeldCollateral
    service: Service
    moment: datetime
    metrics: Metrics = field(default_factory=Metrics)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.kept = FetchedFile(self.held.folder / "fetched.json")
        self.refresher = Refresher(
            self.service,
            self.held.store,
            self.kept,
            update="standard",
            pace=Pace(every_s=3600.0, failed_s=300.0, gap_s=0.0, unknown_s=600.0),
            metrics=self.metrics,
            now=lambda: self.moment,
            monotonic=self.clock,
        )

    def outcomes(self) -> dict[str, float]:
        found = self.metrics.registry.collect()
        return {
            sample.labels["outcome"]: sample.value
            for metric in found
            for sample in metric.samples
            if sample.name == "cloister_collateral_refreshes_total"
        }


@pytest.fixture
def desk(held: HeldCollateral, now: datetime) -> Desk:
    held.store.look(now)
    made = Desk(held, Service([held.platform.copy()]), now)
    for platform in made.service.platforms:
        platform.reissue(now + LATER)
    return made


async def test_newer_collateral_comes_into_force_and_is_kept_for_a_restart(desk: Desk, now: datetime) -> None:
    desk.moment = now + LATER
    assert (await desk.refresher.refresh()).failed == 0
    found = desk.held.current(desk.moment)
    assert found.verified.tcb_info.issue_date == desk.service.platforms[0].window.issued_at
    assert [Collateral.parse(raw).tcb_info for raw in desk.kept.read()] == [found.verified.tcb_info]
    assert desk.outcomes() == {"adopted": 1.0}


async def test_the_same_collateral_is_no_news(desk: Desk, now: datetime) -> None:
    desk.moment = now + LATER
    raw = desk.service.platforms[0].collateral()  # the simulator signs anew each time; the service does not

    async def fetch(wanted: Sequence[Wanted]) -> Mapping[Wanted, bytes | CloisterError]:
        return dict.fromkeys(wanted, raw)

    desk.service.fetch = fetch  # type: ignore[method-assign]
    assert (await desk.refresher.refresh()).failed == 0
    assert (await desk.refresher.refresh()).failed == 0
    assert desk.outcomes() == {"adopted": 1.0, "unchanged": 1.0}


@pytest.mark.attack("B16")
async def test_a_source_that_is_down_changes_nothing(desk: Desk, now: datetime) -> None:
    kept = desk.held.current(now)
    desk.service.down = Unavailable("pcs.test: it cannot be reached", reason="pcs.unreachable")
    with capture_logs() as logs:
        assert (await desk.refresher.refresh()).failed == 1
    assert desk.held.current(now) is kept
    assert [entry["event"] for entry in logs] == ["collateral.not_fetched"]
    assert desk.outcomes() == {"failed": 1.0}


@pytest.mark.attack("B05")
async def test_a_source_that_brings_what_is_older_changes_nothing(desk: Desk, now: datetime) -> None:
    kept = desk.held.current(now)
    desk.service.platforms[0].reissue(now - LATER)
    assert (await desk.refresher.refresh()).failed == 1
    assert desk.held.current(now) is kept
    assert desk.outcomes() == {"refused": 1.0}


async def test_a_source_that_answers_with_another_family_is_not_listened_to(desk: Desk, now: datetime) -> None:
    other = other_family(desk.held.platform)

    async def fetch(wanted: Sequence[Wanted]) -> Mapping[Wanted, bytes | CloisterError]:
        return {one: other.collateral() for one in wanted}

    desk.service.fetch = fetch  # type: ignore[method-assign]  # a source that lies
    assert (await desk.refresher.refresh()).failed == 1
    assert family_of(other) not in desk.held.store.held


@pytest.mark.attack("B17")
async def test_a_source_that_is_down_for_31_days(desk: Desk, now: datetime) -> None:
    desk.service.down = Unavailable("pcs.test: it cannot be reached", reason="pcs.unreachable")
    for day in range(1, 32):
        desk.moment = now + timedelta(days=day)
        await desk.refresher.refresh()
        if day < 30:
            desk.held.current(desk.moment)
    with pytest.raises(NotReady) as refused:
        desk.held.current(desk.moment)
    assert refused.value.reason == "collateral.expired"
    desk.service.down = None
    desk.service.platforms[0].reissue(desk.moment)
    await desk.refresher.refresh()
    desk.held.current(desk.moment)


async def test_an_unknown_family_is_asked_for_with_the_known_ones(desk: Desk, now: datetime) -> None:
    other = other_family(desk.held.platform)
    other.reissue(now + LATER)
    desk.service.platforms.append(other)
    desk.moment = now + LATER
    desk.held.store.on_unknown.append(lambda family: bool(desk.refresher.want(family)))
    with pytest.raises(NotReady):
        desk.held.current(desk.moment, other)
    await desk.refresher.refresh()
    assert [one.fmspc for one in desk.service.asked[0]] == [desk.held.platform.fmspc.hex(), other.fmspc.hex()]
    desk.held.current(desk.moment, other)


def unknown(n: int) -> Family:
    return Family(Tee.SGX, n.to_bytes(6, "big"), PckCa.PLATFORM)


@pytest.mark.attack("G27")
async def test_families_that_come_to_nothing_are_asked_for_seldom_and_few_at_a_time(desk: Desk) -> None:
    assert desk.refresher.want(unknown(1))
    assert not desk.refresher.want(unknown(1))
    assert [desk.refresher.want(unknown(n)) for n in range(2, MAX_UNKNOWN + 2)].count(True) == MAX_UNKNOWN - 1
    await desk.refresher.refresh()
    assert not desk.refresher.want(unknown(1))
    await desk.refresher.refresh()
    assert len(desk.service.asked[1]) == 1  # what came to nothing is not asked for again by itself
    desk.clock.pass_s(601)
    assert desk.refresher.want(unknown(1))


async def test_the_loop_asks_at_once_when_a_family_is_wanted(desk: Desk) -> None:
    async with Lifecycle.running() as lifecycle, asyncio.timeout(10):
        lifecycle.spawn(desk.refresher.refreshing(), "refreshing")
        await desk.service.heard.wait()
        desk.service.heard.clear()
        desk.refresher.want(unknown(1))
        await desk.service.heard.wait()
    assert len(desk.service.asked[1]) == 2


async def test_what_was_fetched_is_read_again_unless_it_is_spoilt(tmp_path: Path, desk: Desk, now: datetime) -> None:
    kept = FetchedFile(tmp_path / "kept.json")
    assert kept.read() == ()
    kept.write([desk.held.platform.collateral()], now)
    assert len(kept.read()) == 1
    assert (tmp_path / "kept.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "kept.json").write_bytes(b"{")
    with capture_logs() as logs:
        assert kept.read() == ()
    assert [entry["event"] for entry in logs] == ["collateral.spoilt"]
