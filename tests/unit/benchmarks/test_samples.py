import pytest
from benchmarks.load.turns import Counted, Turn
from benchmarks.report.samples import LIMIT, Sample, rows
from benchmarks.report.tables import by_process
from benchmarks.report.targets import verdicts

TURN = Turn(in_flight=32, seconds=2.0, warm_up_s=0.0)
MESH = {"gateway": 0.4, "worker-1": 0.2, "verifier": 0.0}


def sample(system: str, carrier: str, answers: int, cpu_s: dict[str, float] | None = None) -> Sample:
    counted = Counted(answers=answers, errors=0, error="", elapsed_s=2.0, cpu_s=0.1, p50_s=0.001, p99_s=0.002)
    return Sample.of(system, carrier, TURN, counted, cpu_s or {system: 1.0}, {system: 5_000_000})


def test_cpu_is_shared_out_among_the_answers_and_added_up_over_the_services() -> None:
    found = sample("mesh", "unary", 2000, MESH)
    assert found.per_s == 1000
    assert found.cpu_us == pytest.approx({"gateway": 200.0, "worker-1": 100.0, "verifier": 0.0})
    assert found.total_cpu_us == pytest.approx(300.0)
    assert found.load_cpu_us == pytest.approx(50.0)


def test_ratios_are_taken_within_a_round_and_not_between_rounds() -> None:
    # The machine is half as fast in the second round, and again in the third; the mesh keeps its share.
    found = rows(
        [[sample(LIMIT, "in process", 8000 // slow), sample("mesh", "unary", 4000 // slow)] for slow in (1, 2, 4)]
    )
    assert [row.of_limit for row in found] == [1.0, 0.5]
    assert [row.per_s for row in found] == [2000, 1000]


def test_one_bad_round_does_not_move_a_median() -> None:
    good, bad = sample("mesh", "unary", 4000, MESH), sample("mesh", "unary", 40, MESH)
    (row,) = rows([[good], [bad], [good]])
    assert row.per_s == good.per_s
    assert row.total_cpu_us == pytest.approx(good.total_cpu_us)
    assert row.spread_us == (good.total_cpu_us, bad.total_cpu_us)  # but the reader is told
    assert row.of_limit == 0.0  # no limit was measured


def test_a_tiny_model_is_held_to_cpu_for_each_answer() -> None:
    found = rows([[sample("mesh", "unary", 2000, MESH), sample("mesh", "sealed", 1000, MESH)]])
    assert [(each.what, each.found, each.met) for each in verdicts("mlp", found)] == [
        ("CPU of all services, unary", "300 µs", True),
        ("sealing adds, unary", "100%", False),
    ]


def test_a_large_model_is_held_to_its_share_of_the_limit() -> None:
    found = rows([[sample(LIMIT, "in process", 100), sample("mesh", "sealed", 91), sample("mesh", "unary", 50)]])
    assert [(each.what, each.found, each.met) for each in verdicts("resnet50-u8", found)] == [
        ("of OpenVINO's rate, sealed", "0.91", True),
        ("the same by CPU, sealed", "0.91", True),
    ]


def test_neighbours_that_take_half_the_machine_from_one_turn_do_not_change_its_share_by_cpu() -> None:
    slowed = sample("mesh", "sealed", 50, {"gateway": 0.05, "worker-1": 0.50})  # half the answers, half the CPU
    (_, row) = rows([[sample(LIMIT, "in process", 100), slowed]])
    assert row.of_limit == 0.5
    assert row.cpu_of_limit == pytest.approx(1 / 1.1)


def test_the_table_names_gateway_and_workers_and_adds_up_the_others() -> None:
    text = by_process({"worker-1": 90.4, "gateway": 210.0, "verifier": 1.0, "provisioner": 2.0})
    assert text == "gateway 210 + worker-1 90 + others 3"
    assert by_process({"triton": 300.0}) == ""
