"""Shell scripts, and those that manifests hand to pods, say nothing that shellcheck warns of."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fakes.manifests import CLUSTER, ROOT, rendered
from fakes.pod_security import containers
from fakes.pods import WORKLOADS, pod_spec
from fakes.running_mesh import BIN

SHELLCHECK = shutil.which("shellcheck", path=f"{BIN}:{os.environ['PATH']}")
SCRIPTS = (ROOT / ".ci" / "run", *sorted((ROOT / "deploy").rglob("*.sh")))

pytestmark = pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed")


def warnings(*options: str | Path, script: str = "") -> str:
    """What it warns of in a file, or in a text."""
    command = [str(SHELLCHECK), "--severity=warning", *map(str, options)]
    return subprocess.run(command, input=script, capture_output=True, text=True, check=False).stdout


def test_a_script_is_without_warnings() -> None:
    assert len(SCRIPTS) > 8
    assert warnings("--external-sources", *SCRIPTS) == ""


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", ["sgx", "simulated"])
def test_what_a_pod_runs_by_a_shell_is_without_warnings(overlay: str) -> None:
    scripts = {
        each["args"][0]
        for workload in rendered(CLUSTER / "overlays" / overlay)
        if workload["kind"] in WORKLOADS
        for each in containers(pod_spec(workload))
        if each.get("command", [""])[0] == "/bin/sh"
    }
    assert scripts
    for script in scripts:
        assert warnings("-", script=f"#!/bin/sh -eu\n{script}") == ""


def test_a_warning_would_be_noticed() -> None:
    assert "SC2154" in warnings("--shell=sh", "-", script='rm "$folder"/file\n')
