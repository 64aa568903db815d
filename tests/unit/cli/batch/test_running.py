"""A batch from file to file: counts, journals, troubles of gateways, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloister.cli.batch.journal import Journal, locked
from cloister.cli.batch.reading import stamp_of
from cloister.cli.batch.running import Report
from cloister.cli.failures import ExitCode, Stop
from cloister.errors import Overloaded
from fakes.folder_jobs import FolderJobs, negative, values

from .conftest import Run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.npy"
    np.save(path, values(range(1000)))
    return path


def counted(report: Report) -> tuple[int, int, int]:
    return report.rows, report.counts.answered, report.counts.failed


def test_every_row_has_its_answer_in_the_order_of_the_file(run_batch: Run, source: Path, tmp_path: Path) -> None:
    report = run_batch(source, rows=7, in_flight=40)
    assert counted(report) == (1000, 1000, 0)
    assert report.counts.versions == {"1": 1000}
    with np.load(tmp_path / "out.npz") as found:
        assert found["row"].tolist() == list(range(1000))
        assert np.array_equal(found["y"], 2 * values(range(1000)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gateway.sqlite", "in.npy", "out.npz"]


@pytest.mark.parametrize("trouble", ["lost", "slow", "forgotten", "expired"])
def test_a_gateway_in_trouble_costs_no_row(run_batch: Run, source: Path, jobs: FolderJobs, trouble: str) -> None:
    jobs.troubles = {trouble: 30}
    assert counted(run_batch(source, rows=10)) == (1000, 1000, 0)
    accepted = jobs.events("accepted")
    again = len(jobs.events("forgotten")) + len(jobs.events("expired"))
    assert len(accepted) == 100 + again
    assert (again > 0) == (trouble in ("forgotten", "expired"))


def test_a_gateway_that_stays_full_ends_the_command_and_not_the_batch(
    run_batch: Run, source: Path, tmp_path: Path, jobs: FolderJobs
) -> None:
    jobs.troubles = {"full": 100}
    with pytest.raises(Overloaded):
        run_batch(source, timeout_s=0.05)
    with Journal.read(tmp_path / "out.npz.journal") as journal:
        assert journal.tickets() == [], "what was refused for want of room left nothing"
    jobs.troubles = {}
    assert counted(run_batch(source)) == (1000, 1000, 0)


def test_rows_that_fail_are_told_of_and_the_others_answered(
    run_batch: Run, source: Path, tmp_path: Path, jobs: FolderJobs
) -> None:
    x = values(range(100))
    x[[30, 77]] *= -1
    np.save(source, x)
    jobs.refuse = negative
    report = run_batch(source, rows=1)
    assert counted(report) == (100, 98, 2)
    assert report.errors is not None
    lines = [json.loads(line) for line in report.errors.read_text().splitlines()]
    assert lines == [
        {"row": row, "class": "InvalidRequest", "reason": "content.unfit", "message": "a number below zero"}
        for row in (30, 77)
    ]
    with np.load(tmp_path / "out.npz") as found:
        assert found["row"].tolist() == [row for row in range(100) if row not in (30, 77)]
    before = len(jobs.events("accepted"))
    assert counted(run_batch(source, rows=1)) == (100, 98, 2)
    assert len(jobs.events("accepted")) == before  # the same command asks nothing again
    jobs.refuse = lambda _inputs: None
    assert counted(run_batch(source, rows=1, again=True)) == (100, 100, 0)
    assert len(jobs.events("accepted")) == before + 2
    assert not report.errors.exists()


def test_a_job_that_fails_fails_for_each_of_its_rows(run_batch: Run, source: Path, jobs: FolderJobs) -> None:
    x = values(range(100))
    x[30] *= -1
    np.save(source, x)
    jobs.refuse = negative
    assert counted(run_batch(source, rows=10)) == (100, 90, 10)


def test_an_answer_without_a_row_for_each_is_none(run_batch: Run, source: Path, jobs: FolderJobs) -> None:
    jobs.answer = lambda inputs: {"y": inputs["x"][1:]}
    assert counted(run_batch(source)) == (1000, 0, 1000)


def test_an_npy_has_no_row_numbers_so_it_has_all_rows_or_is_not_written(
    run_batch: Run, source: Path, tmp_path: Path, jobs: FolderJobs
) -> None:
    x = values(range(100))
    x[30] *= -1
    np.save(source, x)
    jobs.refuse = negative
    with pytest.raises(Stop, match=r"1 of 100 rows failed.*--output NAME\.npz"):
        run_batch(source, "out.npy", rows=1)
    assert not (tmp_path / "out.npy").exists()
    before = len(jobs.events("accepted"))
    folder = tmp_path / "out.npy.journal"
    assert counted(run_batch(source, "other.npz", folder=folder)) == (100, 99, 1)
    assert len(jobs.events("accepted")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"digest": "0" * 64}, "the content of the input file"),
        ({"version": "2"}, "--version"),
        ({"model_digest": bytes(32)}, "--digest"),
        ({"rounding": True}, "--round"),
        ({"rows": 5}, "--rows"),
        ({"cluster": "other"}, "the mesh"),
        ({"client": "spiffe://test/client/other"}, "the identity that asks"),
        ({"receipts": Path("receipts")}, "--receipts"),
    ],
    ids=["input", "version", "digest", "round", "rows", "mesh", "client", "receipts"],
)
def test_another_batch_does_not_go_on_with_a_journal(
    run_batch: Run, source: Path, tmp_path: Path, jobs: FolderJobs, change: dict[str, Any], words: str
) -> None:
    jobs.troubles = {"full": 100}
    with pytest.raises(Overloaded):
        run_batch(source, timeout_s=0.01, rows=10)
    with pytest.raises(Stop, match=f"is of another batch.*: it differs in {words}; .*--fresh") as caught:
        run_batch(source, **({"rows": 10} | change))
    assert caught.value.code == ExitCode.USAGE
    jobs.troubles = {}
    assert counted(run_batch(source)) == (1000, 1000, 0)  # rows per job as it was begun


def test_two_commands_are_not_at_work_on_one_journal(
    run_batch: Run, source: Path, tmp_path: Path, jobs: FolderJobs
) -> None:
    jobs.troubles = {"full": 100}
    with pytest.raises(Overloaded):
        run_batch(source, timeout_s=0.01)
    jobs.troubles = {}
    with locked(tmp_path / "out.npz.journal"), pytest.raises(Stop, match="another 'cloister submit' is at work"):
        run_batch(source)


def test_a_journal_is_for_nobody_else_to_read(run_batch: Run, source: Path, tmp_path: Path, jobs: FolderJobs) -> None:
    jobs.refuse = negative
    np.save(source, -values(range(10)))
    run_batch(source)
    folder = tmp_path / "out.npz.journal"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    with Journal.read(folder) as journal:
        assert journal.tickets() == []


def test_an_empty_file_has_an_empty_answer(run_batch: Run, source: Path, tmp_path: Path) -> None:
    np.save(source, values(range(0)))
    assert counted(run_batch(source)) == (0, 0, 0)
    with np.load(tmp_path / "out.npz") as found:
        assert found["y"].shape == (0, 2)


def test_a_folder_that_is_no_journal_is_left_alone(run_batch: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.npz.journal").mkdir()
    with pytest.raises(Stop, match="is no journal of a batch"):
        run_batch(source)


def test_a_journal_that_is_damaged_is_named(run_batch: Run, source: Path, tmp_path: Path, jobs: FolderJobs) -> None:
    jobs.troubles = {"full": 100}
    with pytest.raises(Overloaded):
        run_batch(source, timeout_s=0.01)
    (tmp_path / "out.npz.journal" / "journal.sqlite").write_bytes(b"no database " * 1000)
    with pytest.raises(Stop, match=r"out\.npz\.journal cannot be used: .*database"):
        run_batch(source)


def test_a_file_that_changes_while_it_is_read_is_found_out(run_batch: Run, source: Path, tmp_path: Path) -> None:
    before = stamp_of(source)
    with pytest.raises(Stop, match="has been changed while it was read"):
        run_batch(source, stamp=(before[0] + 1, before[1]))
    assert not (tmp_path / "out.npz").exists()
