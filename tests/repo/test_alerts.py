"""Alerts ask for metrics that exist, go off when they should, and each has its page for whoever is woken by it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "observability"
RUNBOOKS = ROOT / "docs" / "guides" / "runbooks.md"
_SUFFIX = re.compile(r"_(?:total|bucket|sum|count)$")


def alerts() -> list[dict[str, Any]]:
    """All rules of alerts.yaml."""
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def named(text: str) -> set[str]:
    """Metrics that a text names, without what Prometheus puts behind the name of a counter or a histogram."""
    return {_SUFFIX.sub("", name) for name in re.findall(r"cloister_[a-z_]+", text)}


def test_alerts_ask_for_metrics_that_exist() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "services" / "cloister").rglob("*.py"))
    there = {_SUFFIX.sub("", name) for name in re.findall(r'"(cloister_[a-z_]+)"', code)}
    asked = set().union(*(named(str(rule["expr"])) for rule in alerts()))
    assert asked
    assert asked - there == set()


def test_each_alert_has_a_runbook() -> None:
    titles = re.findall(r"^## (Cloister\w+)$", RUNBOOKS.read_text(), re.M)
    assert titles == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/guides/runbooks.md#{rule['alert'].lower()}"


def test_each_alert_is_seen_to_go_off() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    fired = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_agrees() -> None:
    command = ["promtool", "test", "rules", "alerts_test.yaml"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
