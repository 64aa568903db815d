"""Benchmarks run as they stand; how fast is no business of a test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.table import Table

from fakes.sim import good_evidence

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{Path(name).stem}", BENCHMARKS / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_part_of_an_appraisal_is_called_as_it_is_now() -> None:
    bench: Any = loaded("micro/appraise.py")
    for case in bench.cases():
        for part in bench.parts(case, good_evidence()).values():
            part()
        bench.full(case, good_evidence())()


async def test_the_engine_is_asked_as_it_is_now_and_answers_once_at_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench: Any = loaded("micro/engine.py")
    for name, value in {"ROUNDS": 1, "ROUND_S": 0.0, "IN_FLIGHT": (2,)}.items():
        monkeypatch.setattr(bench, name, value)
    for model in (bench.perceptron(30, 8, 2), bench.convolutions()):
        table = Table(*"1234567")
        await bench.compare(table, "a model", model)
        assert table.row_count == 1


def test_a_request_is_read_and_checked_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    bench: Any = loaded("micro/contract.py")
    monkeypatch.setattr(bench, "TURNS", 1)
    monkeypatch.setattr(bench, "RUNS", 2)
    bench.main()


def test_a_job_is_sealed_opened_and_answered_as_it_is_now() -> None:
    bench: Any = loaded("micro/job_seal.py")
    assert all(0 < spent_s < 1 for spent_s in bench.steps(240, padded=True, turns=32).values())


@pytest.mark.parametrize("name", ["micro/judges.py", "micro/record.py", "micro/seal.py", "micro/vaults.py"])
def test_the_others_fit_what_they_measure(name: str) -> None:
    assert callable(loaded(name).main)


async def test_a_few_workers_join_and_renew() -> None:
    bench: Any = loaded("scenarios/renewals.py")
    waves, steps = await bench.measure(4, 1, time_steps=True)
    assert [len(wave.served_s) for wave in waves] == [4, 4]
    assert steps["steps"] > 0
    bench.table(waves, 4)
