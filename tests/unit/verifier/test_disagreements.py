"""The folder of evidence to look into: bounded, and never in the way of a rejection."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Evidence, Expected
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.verifier.collateral import Endorsements
from cloister.verifier.disagreements import DISAGREEMENT, Disagreements
from cloister.verifier.judges import Case
from fakes.sim import good_evidence

BEGAN = datetime.now(UTC)


@pytest.fixture
def case() -> Case:
    good = good_evidence()
    verified = Collateral.parse(good.collateral).verified(TrustAnchor("simulated", good.root_der), BEGAN)
    return Case(
        evidence=Evidence(raw_quote=good.quote, claims_bytes=good.claims_bytes),
        expect=Expected(),
        endorsements=Endorsements(verified, good.collateral),
        policy=Policy.default(),
        now=BEGAN,
    )


def kept(folder: Path, case: Case, count: int, **limits: int) -> list[str]:
    disagreements = Disagreements(folder, **limits)
    for number in range(count):
        disagreements.keep(replace(case, now=BEGAN + timedelta(seconds=number)), DISAGREEMENT)
    return sorted(path.name for path in folder.iterdir())


def test_of_too_many_the_newest_stay(tmp_path: Path, case: Case) -> None:
    names = kept(tmp_path / "folder", case, 5, max_files=3)
    assert [name.split("-")[0] for name in names] == [
        f"{BEGAN + timedelta(seconds=number):%Y%m%dT%H%M%S%fZ}" for number in (2, 3, 4)
    ]


def test_it_is_bounded_in_bytes(tmp_path: Path, case: Case) -> None:
    (name,) = kept(tmp_path / "one", case, 1)
    size_bytes = (tmp_path / "one" / name).stat().st_size
    assert len(kept(tmp_path / "several", case, 6, max_bytes=2 * size_bytes)) == 2


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, case: Case) -> None:
    (tmp_path / "folder").write_bytes(b"a file where the folder should be")
    Disagreements(tmp_path / "folder").keep(case, DISAGREEMENT)
