"""The model owner's guide is walked as it is written: its commands, in its order, and what it shows is what is said."""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from fakes.guide import Reader, steps

PAGE = "owning-a-model.md"
FEATURES = 30


def has_its_files(folder: Path) -> None:
    """What the guide says one needs: a model, and an input."""
    x = ops.parameter([-1, FEATURES], np.float32, name="measurements")
    x.output(0).set_names({"measurements"})
    y = ops.sigmoid(ops.reduce_sum(x, ops.constant(np.array([1])), keep_dims=True))
    y.output(0).set_names({"benign_probability"})
    (folder / "model").mkdir()
    ov.save_model(ov.Model([ops.result(y)], [x]), folder / "model" / "model.xml", compress_to_fp16=False)
    (folder / "record.json").write_text(json.dumps({"measurements": [[0.0] * FEATURES]}))


@pytest.mark.attack("J14")
def test_the_owners_guide_works_as_it_is_written(tmp_path: Path) -> None:
    has_its_files(tmp_path)
    walk = steps(PAGE)
    assert len(walk) > 40
    reader = Reader(tmp_path, more={"cloister init": f"--port {20_000 + 16 * secrets.randbelow(600)}"})
    with ExitStack() as beside:
        beside.callback(reader.ends)
        following = beside.enter_context(ExitStack())
        for step in walk:
            if step.command == "cloister audit follow":
                following.enter_context(reader.follows(step))
                continue
            if step.command.startswith("cloister down"):
                following.close()
            reader.does(step)
