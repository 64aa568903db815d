"""A batch whose client is killed again and again, at any point of its code, and run again."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fakes.folder_jobs import FolderJobs, values
from fakes.killed_batch import calls, live

ROWS = 100
BAD = (17, 70)  # rows that the model does not like, and with them the others of their jobs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = values(range(ROWS))
    x[list(BAD)] *= -1
    np.save(tmp_path / "in.npy", x)
    FolderJobs(tmp_path)
    return tmp_path


@pytest.mark.parametrize("seed", range(2))
def test_a_client_that_is_killed_anywhere_asks_each_row_once_and_answers_all(folder: Path, seed: int) -> None:
    whole = folder / "whole"
    whole.mkdir()
    (whole / "in.npy").write_bytes((folder / "in.npy").read_bytes())
    assert live(whole, seed, 0) == 0
    draw, most = random.Random(seed), calls(whole)
    deaths = 0
    while live(folder, 100 * seed + deaths, draw.randint(1, most * (10 + deaths) // 60)) != 0:
        deaths += 1  # and lives grow longer, so that one of them is long enough
        assert deaths < 300
    assert deaths > 5
    assert live(folder, seed, 0) == 0  # and once more, whole: nothing is asked
    check(folder)


def check(folder: Path) -> None:
    failed = [row for bad in BAD for row in range(bad // 3 * 3, bad // 3 * 3 + 3)]
    answered = [row for row in range(ROWS) if row not in failed]
    with np.load(folder / "out.npz") as found:
        assert found["row"].tolist() == answered
        assert np.array_equal(found["y"], 2 * values(answered))
    assert len((folder / "out.npz.errors.jsonl").read_text().splitlines()) == len(failed)
    jobs = FolderJobs(folder)
    accepted, forgotten = Counter(jobs.events("accepted")), Counter(jobs.events("forgotten"))
    assert accepted == Counter(set(accepted)) + forgotten, "asked twice, and the gateway had forgotten nothing"
    spans = {key.split(":")[1] for key in accepted}
    assert spans == {str(number) for number in range((ROWS + 2) // 3)}
    left = {path.name for path in folder.iterdir()} - {"gateway.sqlite", "whole", "calls"}
    assert left == {"in.npy", "out.npz", "out.npz.errors.jsonl", "out.npz.journal"}
