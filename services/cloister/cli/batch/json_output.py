"""Answers as JSON lines: for each row its number and its outputs, nested as they are shaped."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

from cloister.cli.batch.answers import Column, blocks
from cloister.cli.batch.journal import Journal


def write_json(journal: Journal, path: Path, columns: list[Column]) -> None:
    """An object a line: `{"row": 0, "outputs": {"y": [...]}}`.

    Numbers that are not finite are the texts "NaN", "Infinity" and "-Infinity"; bytes that are no UTF-8 are
    `{"base64": ...}`.
    """
    del columns  # JSON needs to know nothing beforehand
    with path.open("w", encoding="utf-8") as file:
        for block in blocks(journal):
            lists = {name: array.tolist() for name, array in block.outputs.items()}
            for place, row in enumerate(block.rows):
                outputs = {name: _plain(values[place]) for name, values in lists.items()}
                file.write(json.dumps({"row": row, "outputs": outputs}, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
