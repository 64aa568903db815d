"""What `cloister status` says of jobs."""

from __future__ import annotations

import pytest

from cloister.cli.mesh_status import print_jobs

QUEUE = {"model": "tiny", "waiting": 3, "running": 2, "bytes": 10, "oldest_s": 4.5, "dead": 1}


def test_each_queue_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_jobs({"state": "ready", "queues": [QUEUE]})
    said = capsys.readouterr()
    assert [line.split() for line in said.out.splitlines() if line][-1] == ["tiny", "3", "2", "4.5", "s", "1"]
    assert not said.err


@pytest.mark.parametrize("state", ["ready", "jobs.off", None])
def test_a_mesh_without_jobs_says_nothing_of_them(state: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    print_jobs({"state": state, "queues": []})
    said = capsys.readouterr()
    assert not (said.out + said.err).strip()


def test_why_no_jobs_are_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_jobs({"state": "redis.exposed", "queues": []})
    said = capsys.readouterr()
    assert "redis.exposed" in said.out + said.err
