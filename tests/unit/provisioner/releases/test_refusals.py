"""Refused releases on record, and what a caller with nothing but a worker's TLS identity can make of that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.errors import ChallengeExpired
from cloister.provisioner.releases.refusals import LINES_A_MINUTE
from fakes.release_desk import ReleaseDesk, release_desk
from fakes.results import WORKER

COUNTED = {"outcome": "refused", "reason": "challenge.expired", "simulated": ""}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ReleaseDesk]:
    with release_desk(tmp_path) as made:
        yield made


@pytest.mark.attack("F01")
@pytest.mark.attack("F14")
async def test_who_is_refused_without_end_fills_no_disk_and_is_on_record_for_that(desk: ReleaseDesk) -> None:
    for _ in range(2 * LINES_A_MINUTE):
        with pytest.raises(ChallengeExpired):
            await desk.releaser.release(desk.request(nonce=bytes(32)), desk.worker.peer())
    lines = [line for line in desk.entries() if line.get("peer") == WORKER]
    told = Counter(line["event"] for line in lines)
    assert LINES_A_MINUTE <= told["key.refused"] < 2 * LINES_A_MINUTE
    assert told["refusals.muted"] == 1
    found = desk.metrics.registry.get_sample_value("cloister_keys_total", COUNTED)
    assert found == 2 * LINES_A_MINUTE, "each of them is counted"
    await desk.releaser.release(desk.request(), desk.worker.peer())


async def test_others_are_recorded_still(desk: ReleaseDesk) -> None:
    for _ in range(LINES_A_MINUTE + 10):
        with pytest.raises(ChallengeExpired):
            await desk.releaser.release(desk.request(nonce=bytes(32)), desk.worker.peer())
    with pytest.raises(ChallengeExpired):
        await desk.releaser.release(desk.request(nonce=bytes(32)), desk.worker.peer(spiffe_id="spiffe://x/worker/b"))
    assert desk.entries()[-1]["peer"] == "spiffe://x/worker/b"
