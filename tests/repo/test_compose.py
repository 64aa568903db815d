"""The compose files, put together by podman-compose: who is given which device, and what nobody may do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "compose"
WAYS = {
    "processes": ("compose.yaml",),
    "sgx": ("compose.enclaves.yaml", "compose.sgx.yaml"),
    "gramine-direct": ("compose.enclaves.yaml", "compose.gramine-direct.yaml"),
}
ENCLAVES = {"verifier", "provisioner", "worker", "verifier-import", "provisioner-import"}
VARIABLES = {"MESH": "/srv/mesh", "ENCLAVES": "/srv/enclaves", "SGX_GROUP": "107"}

pytestmark = pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")


@cache
def services(way: str) -> dict[str, dict[str, Any]]:
    """The services of a way to run a mesh, as podman-compose reads its files, with those taken over from another."""
    files = [word for name in WAYS[way] for word in ("-f", name)]
    command = [sys.executable, "-m", "podman_compose", *files, "--profile", "import", "config"]
    done = subprocess.run(command, cwd=FOLDER, env=os.environ | VARIABLES, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]
    return {name: each if "image" in each else services("processes")[name] for name, each in found.items()}


@pytest.mark.parametrize("way", WAYS)
def test_each_service_is_nobody_and_may_write_nothing_but_its_volumes(way: str) -> None:
    assert {"redis", "gateway", "verifier", "provisioner", "worker"} <= services(way).keys()
    for name, service in services(way).items():
        assert service["read_only"] is True, name
        assert (service["user"], service["cap_drop"]) == ("10001:10001", ["ALL"]), name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service, name


def test_enclaves_have_the_device_and_the_socket_and_nobody_else_has() -> None:
    for name, service in services("sgx").items():
        devices = service.get("devices", [])
        sockets = [volume for volume in service.get("volumes", ()) if "aesmd" in volume]
        expected = (["/dev/sgx_enclave:/dev/sgx_enclave"], ["/var/run/aesmd:/var/run/aesmd:ro"], ["107"])
        found = (devices, sockets, service.get("group_add", []))
        assert found == (expected if name in ENCLAVES else ([], [], [])), name


def test_nothing_is_simulated_under_sgx() -> None:
    assert "simulat" not in str(services("sgx"))
    assert "seccomp" not in str(services("sgx"))
    assert {name for name, each in services("sgx").items() if "/enclave-" in each["image"]} == ENCLAVES


def test_secrets_come_in_by_hand() -> None:
    importers = {name for name, each in services("sgx").items() if each.get("profiles") == ["import"]}
    assert importers == {"verifier-import", "provisioner-import"}
