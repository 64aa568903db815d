"""A commit waits for jobs that are on their way, and for nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cloister.kit import group_commit
from cloister.kit.group_commit import GroupCommit

PATIENCE_S = 30.0


@contextmanager
def running() -> Iterator[tuple[GroupCommit[str], list[list[str]]]]:
    groups: list[list[str]] = []

    def commit(group: list[str]) -> list[str]:
        groups.append(list(group))
        return [job.upper() for job in group]

    commits = GroupCommit[str](commit, name="tried")  # type: ignore[arg-type]  # a list is a sequence
    with commits.running():
        yield commits, groups


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits, waits for so long that nobody can mistake it for a slow machine."""
    monkeypatch.setattr(group_commit, "STEP_S", PATIENCE_S)


@pytest.mark.usefixtures("patient")
def test_jobs_that_are_on_their_way_are_committed_together() -> None:
    with running() as (commits, groups):
        with commits.coming():
            handed_in = [commits.submit(job) for job in ("a", "b", "c")]
        assert [each.result(PATIENCE_S) for each in handed_in] == ["A", "B", "C"]
    assert groups == [["a", "b", "c"]]


@pytest.mark.usefixtures("patient")
def test_a_job_that_is_alone_waits_for_nobody() -> None:
    with running() as (commits, groups):
        with commits.coming():
            pass
        assert commits.submit("a").result(PATIENCE_S / 2) == "A"
        assert commits.submit("b").result(PATIENCE_S / 2) == "B"
    assert groups == [["a"], ["b"]]


def test_one_that_never_comes_is_not_waited_for() -> None:
    with running() as (commits, groups), commits.coming():
        assert commits.submit("a").result(PATIENCE_S) == "A"
    assert groups == [["a"]]


@pytest.mark.usefixtures("patient")
def test_a_group_that_is_large_enough_waits_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "ENOUGH", 1)
    with running() as (commits, _), commits.coming():
        assert commits.submit("a").result(PATIENCE_S / 2) == "A"
