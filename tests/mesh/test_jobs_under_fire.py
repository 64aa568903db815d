"""Jobs while processes are killed and the network is cut: a short run of `make crash-jobs` and `make cut-jobs`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chaos.crash import Crash, crash
from chaos.cut import PAIRS, cut, cuts
from chaos.namespaces import missing
from chaos.strikes import Target

KILLS = 12


@pytest.fixture(autouse=True)
def _redis() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: run `sudo sh deploy/redis.sh`")


@pytest.mark.attack("H08")
def test_every_accepted_job_ends_once_whatever_is_killed(tmp_path: Path) -> None:
    burnt = crash(Crash(folder=tmp_path, jobs=300, kills=KILLS, gap_s=0.8, fsync="always", seed=8), print)
    assert burnt.verdict.held, dict(burnt.verdict.complaints)
    assert burnt.verdict.accepted + burnt.verdict.refused == 300
    assert len(burnt.kills) == KILLS
    assert {kill.target for kill in burnt.kills} == set(Target)


def test_every_accepted_job_ends_once_whoever_is_cut_from_whom(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    planned = cuts(8, len(PAIRS), quick=True)
    healed = cut(tmp_path, 150, planned, 8, print)
    assert healed.verdict.held, dict(healed.verdict.complaints)
    assert healed.verdict.accepted + healed.verdict.refused == 150
