"""What guides say that one needs: a model, and an input for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
import openvino as ov
from openvino import opset13 as ops

FEATURES: Final = 30


def write_model(folder: Path) -> None:
    """Put `model/model.xml`, its weights and `record.json` into a folder: `measurements` [n, 30] in, one number out."""
    x = ops.parameter([-1, FEATURES], np.float32, name="measurements")
    x.output(0).set_names({"measurements"})
    y = ops.sigmoid(ops.reduce_sum(x, ops.constant(np.array([1])), keep_dims=True))
    y.output(0).set_names({"benign_probability"})
    (folder / "model").mkdir(exist_ok=True)
    ov.save_model(ov.Model([ops.result(y)], [x]), folder / "model" / "model.xml", compress_to_fp16=False)
    (folder / "record.json").write_text(json.dumps({"measurements": [[0.0] * FEATURES]}))
