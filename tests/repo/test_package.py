"""`pip install cloister`, without extras: the SDK and the command, and nothing of the services."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from fakes.installed import ROOT, asked_for, installed

OF_SERVICES = {
    *("grpc_health", "hypercorn", "nncf", "openvino", "opentelemetry", "prometheus_client", "pyvoy", "redis"),
    *("sklearn", "starlette", "structlog", "torch", "uvloop"),
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("installed"))


def said_by(python: Path, script: str) -> str:
    done = subprocess.run([python, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_that_is_public_loads_without_the_services(python: Path) -> None:
    script = (
        "import json, sys, cloister.client\n"
        "public = [getattr(cloister.client, name) for name in cloister.client.__all__]\n"
        "print(json.dumps([cloister.client.__file__, len(public), sorted(sys.modules)]))"
    )
    where, public, loaded = json.loads(said_by(python, script))
    assert Path(where).is_relative_to(python.parents[1])
    assert public > 50
    services = ("gateway", "provisioner", "verifier", "worker")
    ours = {name.split(".")[1] for name in loaded if name.startswith("cloister.")}
    assert (OF_SERVICES & set(loaded), ours & set(services)) == (set(), set())


def test_the_command_is_there(python: Path) -> None:
    script = "import sys; sys.argv = ['cloister', '--help']; from cloister.cli.__main__ import main; main()"
    assert "Usage" in said_by(python, script)


def test_its_types_are_there(python: Path) -> None:
    (package,) = (python.parents[1] / "lib").glob("python*/site-packages/cloister")
    assert (package / "py.typed").exists()
    assert (package / "client" / "__init__.pyi").exists()


def test_no_package_of_the_services_is_asked_for() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {name.replace("-", "_") for name in asked_for(declared)} & OF_SERVICES == set()


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("cloister", {"numpy", "grpc", "cloister.client"}),
        ("cloister.client", {"numpy", "grpc", "cloister.client.client"}),
        ("cloister.client.client", {"httpx", "rich", "typer"}),
    ],
)
def test_what_is_not_needed_yet_is_not_loaded(python: Path, module: str, unused: set[str]) -> None:
    loaded = said_by(python, f"import {module}, sys; print('\\n'.join(sys.modules))").split()
    assert unused & set(loaded) == set()
