"""What the overload scenario makes of what its loads counted."""

from __future__ import annotations

from benchmarks.load.open_loop import Paced
from benchmarks.scenarios.overload import Measured, Phase, arguments, table, verdicts


def paced(due: int, answers: int, refused: int = 0, *, late_s: float = 0.0) -> Paced:
    return Paced(
        due=due,
        answers=answers,
        refused=refused,
        expired=due - answers - refused,
        errors=0,
        error="",
        unsent=0,
        elapsed_s=10.0,
        cpu_s=1.0,
        p50_s=0.1,
        p99_s=0.2,
        refusal_p50_s=0.002,
        refusal_p99_s=0.004,
        late_p99_s=late_s,
        last_loss_s=0.5,
    )


def measured(*, late_s: float = 0.0) -> Measured:
    return Measured(
        peak_per_s=100.0,
        peak_cpu_ms=10.0,
        phases=[
            Phase(name="before", calm=paced(200, 200)),
            Phase(name="flood", calm=paced(200, 190, 10), flood=[paced(5000, 760, 4200, late_s=late_s)]),
            Phase(name="after", calm=paced(200, 200)),
        ],
        cpu_s={"worker-1": 10.0, "gateway": 1.0, "verifier": 0.0},
    )


def test_goodput_counts_what_both_tenants_got_and_what_it_cost() -> None:
    assert measured().goodput == 0.95
    assert measured().goodput_by_cpu == 0.95


def test_verdicts_say_what_was_meant() -> None:
    said = "\n".join(verdicts(measured()))
    assert "0.95 of the peak, by CPU 0.95 (meant: 0.9 or more)" in said
    assert "p99 4.0 ms (meant: under 5)" in said
    assert "0.950 of its requests" in said
    assert "due 0.50 s after its end" in said
    assert "could not keep up" not in said


def test_a_load_that_could_not_keep_up_is_said_to_have_been_late() -> None:
    assert "could not keep up" in verdicts(measured(late_s=0.3))[-1]


def test_every_tenant_has_a_line_in_each_phase() -> None:
    assert table(measured(), arguments([])).row_count == 4
