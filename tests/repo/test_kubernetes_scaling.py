"""Workers by load: KEDA's ScaledObject asks for metrics that exist, and Prometheus finds what it should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloister.worker.settings import Settings as Worker
from fakes.manifests import CLUSTER, ROOT, parsed

FILE = CLUSTER / "components" / "keda" / "workers.yaml"


def scaled() -> dict[str, Any]:
    (found,) = (each["spec"] for each in parsed(FILE.read_text()) if each["kind"] == "ScaledObject")
    return dict(found)


def triggers() -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in scaled()["triggers"]}


def test_queries_ask_for_metrics_of_gateways() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "services" / "cloister").rglob("*.py"))
    for name, trigger in triggers().items():
        named = re.findall(r"cloister_\w+", trigger["metadata"]["query"])
        assert named, name
        assert [each for each in named if f'"{each}"' not in code] == []


def test_what_prometheus_does_not_say_is_no_reason_to_have_fewer() -> None:
    assert {each["metadata"]["ignoreNullValues"] for each in scaled()["triggers"]} == {"false"}


def test_a_worker_that_has_to_go_can_answer_what_it_has() -> None:
    (worker,) = (
        each["spec"]["template"]["spec"]
        for each in parsed((CLUSTER / "base" / "worker.yaml").read_text())
        if each["kind"] == "Deployment"
    )
    grace_s = Worker.__dataclass_fields__["grace_s"].default
    down = scaled()["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert worker["terminationGracePeriodSeconds"] > 2 * grace_s
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]
    assert down["policies"][0]["periodSeconds"] > worker["terminationGracePeriodSeconds"]
    assert scaled()["minReplicaCount"] > 1


LOADS: dict[str, tuple[str, dict[str, float], float | None]] = {
    "half of the credits of two gateways": (
        "credits",
        {'cloister_slots{instance="a"}': 32, 'cloister_slots{instance="b"}': 32}
        | {'cloister_slots_used{instance="a"}': 20, 'cloister_slots_used{instance="b"}': 12}
        | {'cloister_model_queued{instance="a", model="m"}': 0},
        0.5,
    ),
    "requests that wait, of two models": (
        "credits",
        {"cloister_slots": 16, "cloister_slots_used": 16}
        | {'cloister_model_queued{model="m"}': 8, 'cloister_model_queued{model="n"}': 8},
        2,
    ),
    "evidence that waits at the verifier": (
        "credits",
        {"cloister_slots": 16, "cloister_slots_used": 4, 'cloister_model_queued{model="m"}': 0}
        | {'cloister_queued{job="verifier"}': 900},
        0.25,
    ),
    "no worker": (
        "credits",
        {"cloister_slots": 0, "cloister_slots_used": 0, 'cloister_model_queued{model="m"}': 12},
        12,
    ),
    "gateways that are lost": ("credits", {'cloister_jobs_waiting{model="m"}': 4}, None),
    "one queue that two gateways see": (
        "jobs",
        {f'cloister_jobs_waiting{{instance="{each}", model="m"}}': 250 for each in "ab"}
        | {'cloister_worker_waiting{worker="w", model="m", version="1"}': 0},
        250,
    ),
    "jobs that no worker can have": (
        "jobs",
        {'cloister_jobs_waiting{model="m"}': 250, 'cloister_jobs_waiting{model="withdrawn"}': 9000}
        | {'cloister_worker_waiting{worker="w", model="m", version="1"}': 3},
        250,
    ),
    "no jobs": ("jobs", {"cloister_slots": 16}, 0),
}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_finds_what_workers_are_scaled_by(tmp_path: Path) -> None:
    tests = [
        {
            "name": load,
            "interval": "1m",
            "input_series": [{"series": name, "values": f"{value}x10"} for name, value in series.items()],
            "promql_expr_test": [
                {
                    "expr": triggers()[trigger]["metadata"]["query"],
                    "eval_time": "5m",
                    "exp_samples": [] if found is None else [{"labels": "{}", "value": found}],
                }
            ],
        }
        for load, (trigger, series, found) in LOADS.items()
    ]
    (tmp_path / "scaling.yaml").write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", "scaling.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
