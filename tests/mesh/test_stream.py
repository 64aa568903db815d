"""What the Flink job does on each TaskManager, without Flink: records through the SDK to a real mesh."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister.client import TrustBundle
from cloister.errors import EvidenceRejected, NotFound
from cloister_stream.asking import Asking
from cloister_stream.lines import FAILURE, RESULT
from cloister_stream.settings import Settings
from fakes.running_mesh import MODEL, RunningMesh, inputs


def settings(mesh: RunningMesh, folder: Path, **changes: Any) -> Settings:
    told: dict[str, Any] = {
        "gateway": (mesh.gateway,),
        "trust": mesh.trust,
        "identity": mesh.identity("client"),
        "model": MODEL,
        "input": folder,
        "output": folder,
        "checkpoints": folder,
    }
    return Settings(**{**told, **changes})


def test_each_line_becomes_a_result_a_failure_or_nothing(
    mesh: RunningMesh, tmp_path: Path, truth: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    x = inputs(4, 20)
    lines = [json.dumps({"id": number, "x": row.tolist()}) for number, row in enumerate(x)]
    with Asking(settings(mesh, tmp_path), None) as asking:
        begun = [asking.begin(line) for line in [*lines, "{", '{"id": 20, "x": [1]}', ""]]
        *results, broken, short, nothing = [each.result(60) for each in begun]
    answers = [json.loads(each.line)["outputs"]["y"][0] for each in results if each and each.kind == RESULT]
    np.testing.assert_allclose(np.array(answers), truth(x), rtol=1e-5, atol=1e-6)
    assert [each is not None and each.kind for each in (broken, short)] == [FAILURE, FAILURE]
    assert nothing is None


def test_where_the_first_gateway_is_away_the_next_is_asked(mesh: RunningMesh, tmp_path: Path) -> None:
    line = json.dumps({"id": 1, "x": inputs(5)[0].tolist()})
    with Asking(settings(mesh, tmp_path, gateway=("127.0.0.1:1", mesh.gateway)), None) as asking:
        ended = asking.begin(line).result(60)
    assert ended is not None
    assert ended.kind == RESULT


def test_a_model_that_nobody_serves_is_told_at_the_start(mesh: RunningMesh, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="'other'"), Asking(settings(mesh, tmp_path, model="other"), None):
        pass


def test_workers_that_are_not_believed_stop_the_job_and_not_the_record(mesh: RunningMesh, tmp_path: Path) -> None:
    """Were it the record's failure, a whole folder of records would end so within a minute."""
    unbelieving = replace(TrustBundle.read(mesh.trust), mrenclave=frozenset({"00" * 32}))
    (tmp_path / "trust.json").write_bytes(unbelieving.to_json())
    with Asking(settings(mesh, tmp_path, trust=tmp_path / "trust.json"), None) as asking:
        begun = asking.begin(json.dumps({"id": 1, "x": inputs(6)[0].tolist()}))
        with pytest.raises(EvidenceRejected):
            begun.result(60)
