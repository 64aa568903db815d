"""A real Flink cluster asks a real mesh: each record is written once, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from cloister_stream.local_cluster import TASK_MANAGER, LocalCluster
from cloister_stream.rest import Rest
from fakes.flink_cluster import FLINK, Job, running_cluster, skip_without_flink
from fakes.running_mesh import CONFIG, MODEL, RunningMesh, inputs, probe, until

RECORDS = 300
MANY = 12_000
BROKEN = {
    '{"id": "cut", "x"': "record.malformed",
    '{"x": [1, 2, 3, 4, 5, 6, 7, 8]}': "record.malformed",
    '{"id": "short", "x": [1, 2]}': "request.invalid",
    '{"id": "unknown", "z": [1, 2, 3, 4, 5, 6, 7, 8]}': "request.invalid",
}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    skip_without_flink()
    running = RunningMesh(tmp_path_factory.mktemp("mesh") / "mesh")
    running.found()
    sealed = running.seal(probe())
    with running.up(workers=2):
        running.cli("model", "publish", sealed)
        running.allow("--allow-simulated")
        running.until_serving(2)
        yield running


@pytest.fixture(scope="module")
def cluster(mesh: RunningMesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with running_cluster(mesh, tmp_path_factory.mktemp("flink")) as running:
        yield running


@pytest.fixture
def job(mesh: RunningMesh, cluster: LocalCluster, tmp_path: Path) -> Job:
    return Job(mesh, cluster, tmp_path / "job")


@pytest.fixture(scope="module")
def truth() -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    compiled = ov.Core().compile_model(probe(), "CPU", CONFIG)
    return lambda x: np.array(compiled(x)[0])


def test_the_sdk_is_whole_with_the_older_grpc_and_protobuf_that_flink_wants() -> None:
    skip_without_flink()
    script = (
        "import grpc, google.protobuf, cloister_stream.job, cloister.client\n"
        "print(grpc.__version__, google.protobuf.__version__)\n"
        "print(len([getattr(cloister.client, name) for name in cloister.client.__all__]))"
    )
    done = subprocess.run([FLINK / "bin" / "python", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    versions, public = done.stdout.splitlines()
    assert versions.startswith("1.65.")
    assert versions.split()[1].startswith("5.")
    assert int(public) > 50


def test_each_record_gets_the_models_answer_or_the_reason_why_not(
    job: Job, truth: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    x = inputs(1, RECORDS)
    rows = [json.dumps({"id": number, "x": row.tolist()}) for number, row in enumerate(x)]
    job.records("a.jsonl", rows[: RECORDS // 2])
    job.records("b.jsonl", [*rows[RECORDS // 2 :], *BROKEN, ""])
    job.until_ended(job.begin())
    results = {line["key"]: line for line in job.lines("results")}
    assert len(job.lines("results")) == len(results) == RECORDS
    answers = np.array([results[number]["outputs"]["y"][0] for number in range(RECORDS)])
    np.testing.assert_allclose(answers, truth(x), rtol=1e-5, atol=1e-6)
    assert {line["model"] for line in results.values()} == {f"{MODEL}@1"}
    assert len({line["worker"] for line in results.values()}) in (1, 2)
    assert {line["record"]: line["reason"] for line in job.lines("failures")} == BROKEN
    again = job.submit()
    assert again.returncode == 1
    assert "output.taken" in again.stderr


def test_rows_of_csv_are_records(job: Job, truth: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
    x = inputs(2, 40)
    header = ",".join(["patient", *"abcdefgh"])
    rows = [f"p{number},{','.join(str(value) for value in row)}" for number, row in enumerate(x)]
    job.records("a.csv", [header, *rows[:20]])
    job.records("b.csv", [header, *rows[20:], "p40,1,2"])
    job.until_ended(job.begin(key="patient"))
    results = {line["key"]: line["outputs"]["y"][0] for line in job.lines("results")}
    assert sorted(results) == sorted(f"p{number}" for number in range(40))
    np.testing.assert_allclose([results[f"p{number}"] for number in range(40)], truth(x), rtol=1e-5, atol=1e-6)
    assert [line["reason"] for line in job.lines("failures")] == ["record.malformed"]


def test_what_is_wrong_with_a_job_is_told_before_it_begins(job: Job) -> None:
    assert "records.missing" in job.submit().stderr
    job.records("a.jsonl", ['{"id": 1, "x": [1, 2, 3, 4, 5, 6, 7, 8]}'])
    assert "settings.invalid" in job.submit(in_flight=0).stderr
    assert "nobody holds no certificate.pem" in job.submit(identity="nobody").stderr


def test_no_record_is_lost_or_written_twice_whatever_is_killed(
    job: Job, mesh: RunningMesh, cluster: LocalCluster
) -> None:
    """TaskManager, gateway, a worker; then all of Flink, which goes on from the checkpoint on the disk."""
    for part in range(3):
        numbers = range(part, MANY, 3)
        job.records(f"{part}.jsonl", (json.dumps({"id": each, "x": [each / MANY] * 8}) for each in numbers))
    job.begin(in_flight=4)  # slowly, so that there is something left to kill
    until(lambda: len(job.lines("results")) > 0, "the first results", 120)
    os.kill(cluster.pid(TASK_MANAGER), signal.SIGSTOP)
    assert "job.running" in job.submit().stderr
    mesh.kill("gateway")
    mesh.kill(next(each["name"] for each in mesh.state["programs"] if each["service"] == "worker"))
    cluster.kill(TASK_MANAGER)
    killed_at = len(job.lines("results"))
    cluster.start(TASK_MANAGER)
    until(lambda: killed_at < len(job.lines("results")), "results after the TaskManager was killed", 120)
    cluster.kill()
    assert len(job.lines("results")) < MANY
    cluster.start()
    job_id = job.begin(in_flight=256)
    job.until_ended(job_id)
    counted = Counter(line["key"] for line in job.lines("results"))
    assert job.lines("failures") == []
    assert (len(counted), counted.total()) == (MANY, MANY)
    with Rest(cluster.access) as rest:
        assert rest.get(f"/jobs/{job_id}/checkpoints")["counts"]["restored"] == 1
