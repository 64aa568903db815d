"""Which files a job reads, and of which form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloister.errors import InvalidRequest, NotFound
from cloister_stream.files import header_of
from cloister_stream.submitting import command, newest_checkpoint, written


def test_json_lines_have_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n')
    assert header_of(tmp_path) is None
    assert header_of(tmp_path / "a.jsonl") is None


def test_csv_files_have_one(tmp_path: Path) -> None:
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "a.csv").write_text("id,a\r\n1,2\r\n")
    (tmp_path / "b.CSV").write_text("id,a\n")
    (tmp_path / ".c.csv").write_text("hidden\n")
    assert header_of(tmp_path) == "id,a"


def test_files_of_two_forms_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,a\n")
    (tmp_path / "b.csv").write_text("id,b\n")
    with pytest.raises(InvalidRequest, match="different headers"):
        header_of(tmp_path)
    (tmp_path / "c.jsonl").write_text("")
    with pytest.raises(InvalidRequest, match="CSV files and others"):
        header_of(tmp_path)


@pytest.mark.parametrize("there", [True, False], ids=["empty", "absent"])
def test_no_files_are_told_before_the_job_begins(tmp_path: Path, there: bool) -> None:
    with pytest.raises(NotFound, match="no records"):
        header_of(tmp_path if there else tmp_path / "x")


def test_a_job_goes_on_from_the_newest_checkpoint_that_is_complete(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for number, (job, name) in enumerate((("b" * 32, "chk-7"), ("a" * 32, "chk-12"), ("b" * 32, "chk-9"))):
        (tmp_path / job / name).mkdir(parents=True)
        if name != "chk-9":
            (tmp_path / job / name / "_metadata").write_bytes(b"")
            os.utime(tmp_path / job / name / "_metadata", (number, number))
    newest = newest_checkpoint(tmp_path)
    assert newest == tmp_path / ("a" * 32) / "chk-12"
    words = command(tmp_path / "job.toml", newest, Path("/flink"))
    assert words[words.index("--fromSavepoint") + 1] == newest.as_uri()
    assert words[words.index("-claimMode") + 1] == "CLAIM"


def test_only_output_in_its_place_counts_as_written(tmp_path: Path) -> None:
    (tmp_path / ".results-1.jsonl.inprogress.x").write_text("")
    assert written(tmp_path) == []
    (tmp_path / "results-1.jsonl").write_text("")
    assert [path.name for path in written(tmp_path)] == ["results-1.jsonl"]
