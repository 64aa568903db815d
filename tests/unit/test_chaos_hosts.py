"""What hosts that fail are judged by: requests in journals, and a wire that delays, loses and is cut."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chaos import hosts_report
from chaos.asked import LATE_S, STEP_S, Asks, answered_again_s, errors, well_again_s, wrong
from chaos.asking import STOCK, question
from chaos.found import Found, Kept
from chaos.hosts import HOSTS, Blow, Kind, Storm, Struck, Weathered, blows
from chaos.verdict import Verdict
from chaos.wire import Weather, Wire
from chaos.work import Kind as JobKind
from chaos.work import Wanted
from cloister.api.v1 import jobs_pb2 as pb

RATE = 20.0


def truth(x: np.ndarray) -> np.ndarray:
    return x[:, :4] * 2


class Journal:
    """One that requests are noted in at a steady rate."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        self.lines: list[dict[str, Any]] = []

    def ask(self, at: float, took_s: float | None = 0.01, way: str = "call", **end: Any) -> int:
        self._number += 1
        number = self._number
        self.lines.append({"n": number, "at": at, "way": way, "via": "gateway"})
        if took_s is not None:
            y = base64.b64encode(truth(question(number)).astype(np.float32).tobytes()).decode()
            self.lines.append({"n": number, "at": at + took_s, **(end or {"y": y})})
        return number

    def ask_steadily(self, start_at: float, end_at: float, took_s: float | None = 0.01) -> None:
        for at in np.arange(start_at, end_at, 1 / RATE):
            self.ask(float(at), took_s)

    def read(self) -> Asks:
        self._path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        asks = Asks(self._path)
        asks.look()
        return asks


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "asked.jsonl")


def test_what_never_faltered_is_well_at_once(journal: Journal) -> None:
    journal.ask_steadily(100, 110)
    assert well_again_s(journal.read(), 102, 109, RATE) == 0
    assert answered_again_s(journal.read().all, 102) == {"call": pytest.approx(0.01, abs=0.06)}


@pytest.mark.parametrize("took_s", [LATE_S + 1, None], ids=["late", "unanswered"])
def test_it_is_well_after_the_last_step_in_which_answers_were_late(journal: Journal, took_s: float | None) -> None:
    journal.ask_steadily(100, 102)
    journal.ask_steadily(102, 103.2, took_s)
    journal.ask_steadily(103.2, 112)
    assert well_again_s(journal.read(), 102, 109, RATE) == pytest.approx(3 * STEP_S)


def test_it_is_not_known_to_be_well_before_it_has_been_for_a_while(journal: Journal) -> None:
    journal.ask_steadily(100, 112)
    asks = journal.read()
    assert well_again_s(asks, 102, 102 + 5 * STEP_S, RATE) is None
    assert well_again_s(asks, 102, 102 + 6 * STEP_S, RATE) == 0


def test_where_nobody_asks_nothing_is_well(journal: Journal) -> None:
    journal.ask_steadily(100, 102)
    assert well_again_s(journal.read(), 102, 130, RATE) is None


def test_a_stock_client_does_not_say_whether_all_is_well(journal: Journal) -> None:
    journal.ask_steadily(100, 110)
    for at in range(102, 110):
        journal.ask(at, 2.0, STOCK, error="RpcError", reason="UNAVAILABLE")
    journal.lines.sort(key=lambda line: line["at"])
    asks = journal.read()
    assert well_again_s(asks, 102, 109, RATE) == 0
    assert errors(asks.all, of_stock=True) == {"RpcError UNAVAILABLE": 8}
    assert not errors(asks.all, of_stock=False)


def test_right_answers_and_faults_that_pass_break_no_rule(journal: Journal) -> None:
    journal.ask(100)
    journal.ask(101, error="Unavailable", reason="worker.lost")
    journal.ask(102, error="TimeoutError", reason="")
    journal.ask(103, way=STOCK, error="RpcError", reason="DEADLINE_EXCEEDED")
    journal.ask(104, None)
    assert list(wrong(journal.read().all, truth)) == []


@pytest.mark.parametrize(
    ("end", "rule"),
    [
        ({"y": base64.b64encode(np.ones((2, 4), np.float32).tobytes()).decode()}, "every answer is right"),
        ({"y": ""}, "every answer is right"),
        ({"error": "SealBroken", "reason": "seal.broken"}, "a fault of hosts or links"),
        ({"error": "NotFound", "reason": "model.unknown"}, "a fault of hosts or links"),
        ({"error": "RpcError", "reason": "INTERNAL"}, "a fault of hosts or links"),
    ],
    ids=["another", "empty", "seal", "missing", "internal"],
)
def test_a_wrong_answer_and_an_error_that_accuses_are_told(journal: Journal, end: dict[str, str], rule: str) -> None:
    number = journal.ask(100, **end)
    ((told, what),) = wrong(journal.read().all, truth)
    assert told.startswith(rule)
    assert what.startswith(f"{number} ")


def test_a_journal_is_read_on_while_it_grows_and_over_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    asks = Asks(path)
    asks.look()
    path.write_text('{"at": 1, "life": 0}\n{"at": 5, "n": 1, "way": "call", "via": "gateway"}\n{"at": 6, "n"')
    asks.look()
    assert [(each.number, each.ended_at) for each in asks.all] == [(1, math.inf)]
    with path.open("a") as more:
        more.write('\n{"at": 7, "life": 1}\n{"at": 8, "n": 1, "error": "Unavailable", "reason": "peer.closed"}\n')
    asks.look()
    assert [(each.took_s, each.failed_as) for each in asks.all] == [(3, "Unavailable peer.closed")]


def test_every_host_is_struck_by_every_kind() -> None:
    planned = blows(list(Kind))
    assert {(blow.kind, blow.host) for blow in planned} == {(kind, host) for kind in Kind for host in HOSTS}
    assert len(planned) == len(Kind) * len(HOSTS)


def job(number: int, kept_at: float, *ended_at: float, kind: JobKind = JobKind.ORDINARY) -> Kept:
    wanted = Wanted(number=number, kind=kind, rows=1, priority="normal", order_key="")
    ends = [{"at": at} for at in ended_at]
    return Kept(wanted=wanted, accepted={}, ends=ends, lost=0, record=pb.Job(), again=None, kept_at=kept_at)


def test_a_job_counts_as_late_where_it_ended() -> None:
    jobs = [
        job(1, 100, 105),
        job(2, 100, 101),
        job(3, 90, 99),
        job(4, 104, 110),
        job(5, 100),
        job(6, 100, 106, kind=JobKind.BRIEF),
    ]
    assert hosts_report.late_jobs(Found(jobs=jobs), 100, 110) == [5]


def test_a_run_is_written_and_shown_again(journal: Journal, tmp_path: Path) -> None:
    journal.ask_steadily(100, 101)
    journal.ask_steadily(101, 101.1, 3)
    for at in range(102, 120):
        journal.ask(at, 0.1)
        journal.ask(at, 5, STOCK, error="RpcError", reason="DEADLINE_EXCEEDED")
    blow = Blow(Kind.CUT, "redis")
    times = {"began_at": 101, "over_at": 111, "next_at": 120, "back_s": 0.3, "links_s": None, "well_s": 1.5}
    came = Weathered(
        verdict=Verdict(accepted=2),
        struck=[Struck(blow=blow, load=2.0, **times)],
        asks=journal.read(),
        everything=Found(jobs=[job(1, 104.5, 112)]),
        carried={"carried": 9, "lost": 1, "swallowed": 2, "delay_ms": 1.0, "jitter_ms": 0.5, "loss": 0.003},
        lasted_s=20.0,
    )
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps(hosts_report.document(Storm(folder=tmp_path, blows=[blow], jobs=1), came)))
    written = hosts_report.kept(path)
    (row,) = hosts_report.rows(written)
    shown = dict(zip(hosts_report.COLUMNS, row, strict=True))
    assert shown["host"] == "redis"
    assert shown["what"] == "cut off"
    assert (shown["asked"], shown["late or failed"], shown["failed"], shown["longest s"]) == ("20", "2", "0", "3.0")
    assert shown["stock failed"] == "18 RpcError DEADLINE_EXCEEDED"
    after = [shown[column] for column in ("back s", "links s", "first answer s", "in time s")]
    assert after == ["0.3", "never", "0.1", "1.5"]
    assert (shown["jobs late"], shown["longest job s"]) == ("1", "7.5")
    assert hosts_report.page(written).startswith("| host | what |")
    assert any("18 RpcError DEADLINE_EXCEEDED" in line for line in hosts_report.summary(written))


def test_the_guide_shows_the_figures_that_lie_beside_it(tmp_path: Path) -> None:
    text, figures = hosts_report.PAGE.read_text(), hosts_report.kept(hosts_report.FIGURES)
    assert f"{hosts_report.MARKS[0]}\n{hosts_report.page(figures)}\n{hosts_report.MARKS[1]}" in text
    copy = tmp_path / "page.md"
    copy.write_text(text.replace(figures["machine"], "another"))
    hosts_report.keep(figures, copy, tmp_path / "page.json")
    assert copy.read_text() == text
    assert hosts_report.kept(tmp_path / "page.json") == figures


def frame(target: int, *, kind: bytes = b"\x08\x00", everybody: bool = False) -> bytes:
    address = b"\xff" * 6 if everybody else bytes((2, 0, 0, 0, 0, target))
    return address + bytes(6) + kind + b"content"


@pytest.fixture
def ends() -> Iterator[list[tuple[int, int]]]:
    """Pipes in place of taps."""
    pipes = [os.pipe() for _ in range(3)]
    for reading, _ in pipes:
        os.set_blocking(reading, False)
    yield pipes
    for pipe in pipes:
        for end in pipe:
            os.close(end)


def came(pipe: tuple[int, int]) -> bytes:
    try:
        return os.read(pipe[0], 4096)
    except BlockingIOError:
        return b""


def a_wire(ends: list[tuple[int, int]], loss: float = 0.0) -> Wire:
    return Wire(Weather(loss=loss), [writing for _, writing in ends])


def test_a_frame_arrives_late_and_only_where_it_should(ends: list[tuple[int, int]]) -> None:
    wire = a_wire(ends)
    wire.take(0, frame(2), 10.0)
    assert wire.next_due_s is not None
    assert 10.0005 <= wire.next_due_s <= 10.0015
    wire.deliver(10.0004)
    assert came(ends[2]) == b""
    wire.deliver(10.0015)
    assert [came(end) for end in ends] == [b"", b"", frame(2)]
    wire.take(0, frame(0, everybody=True), 11.0)
    wire.take(0, frame(1, kind=b"\x86\xdd"), 11.0)
    wire.deliver(12.0)
    assert [came(end) for end in ends] == [b"", *[frame(0, everybody=True)] * 2]
    assert (wire.carried, wire.lost, wire.swallowed) == (3, 0, 0)


def test_frames_of_two_hosts_never_overtake_each_other(ends: list[tuple[int, int]]) -> None:
    wire = a_wire(ends)
    sent = [frame(1) + bytes([number]) for number in range(50)]
    for number, each in enumerate(sent):
        wire.take(0, each, 10 + number / 1e5)
    wire.deliver(11)
    assert came(ends[1]) == b"".join(sent)


def test_nothing_passes_where_a_cable_is_out_nor_what_was_under_way(ends: list[tuple[int, int]]) -> None:
    wire = a_wire(ends)
    wire.take(0, frame(1), 10)
    wire.dark = frozenset({1})
    wire.take(0, frame(1), 10)
    wire.take(1, frame(2), 10)
    wire.take(0, frame(2), 10)
    wire.deliver(11)
    assert [came(end) for end in ends] == [b"", b"", frame(2)]
    assert (wire.carried, wire.swallowed) == (1, 3)


def test_some_frames_are_lost(ends: list[tuple[int, int]]) -> None:
    wire = a_wire(ends, loss=0.1)
    for _ in range(1000):
        wire.take(0, frame(1), 10)
    wire.deliver(11)
    assert 50 < wire.lost < 150
    assert wire.carried == 1000 - wire.lost
