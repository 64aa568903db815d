"""Flink's Python pins older packages than ours: the SDK's floors stay below them, so that both fit one environment."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
DECLARED = [
    Requirement(line)
    for name in ("pyproject.toml", "stream/pyproject.toml")
    for line in tomllib.loads((ROOT / name).read_text())["project"]["dependencies"]
    if not line.startswith("cloister")
]
PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "stream" / "requirements.lock").read_text(), re.MULTILINE))


@pytest.mark.parametrize("wanted", DECLARED, ids=lambda wanted: wanted.name)
def test_what_the_sdk_asks_for_is_pinned_within_its_bounds(wanted: Requirement) -> None:
    assert wanted.specifier.contains(PINS[wanted.name])


def test_the_lock_is_flinks_and_not_ours() -> None:
    """Were these pins the newest, the test above would say nothing of floors."""
    assert Version(PINS["grpcio"]) < Version("1.66")
    assert Version(PINS["protobuf"]) < Version("6")
    assert PINS["apache-flink"] == PINS["apache-flink-libraries"]
