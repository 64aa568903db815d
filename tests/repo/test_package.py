"""`pip install cloister`, without extras: the SDK and the command, and nothing of the services."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from cloister.enclave.manifest_view import ManifestView
from cloister.enclave.rules_image import RULES
from fakes.installed import ROOT, asked_for, installed
from fakes.sim import simulated_platform

OF_SERVICES = {
    *("grpc_health", "hypercorn", "nncf", "openvino", "opentelemetry", "prometheus_client", "pyvoy", "redis"),
    *("sklearn", "starlette", "structlog", "torch", "uvloop"),
}

INTRUDERS = {
    "cloister_simulator/quoter.py": b"",
    "cloister/worker/tests/test_worker.py": b"",
    "pip/__init__.py": b"",
    "cloister/verifier/signing.key": b"",
    "cloister/appraisal/root.der": simulated_platform().root_der(),
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


def strays(archive: Path) -> list[str]:
    """What the rules for an enclave's image object to in a zip file."""
    file = {"uri": f"file:{archive.name}", "sha256": "0" * 64}
    manifest = ManifestView(archive.stem, archive.parent, {"sgx": {"trusted_files": [file]}})
    return [objection.problem for rule in RULES for objection in rule.check(manifest)]


@pytest.mark.attack("J11")
@pytest.mark.attack("C13")
def test_the_wheel_holds_no_simulator_test_tool_key_or_root_of_another(python: Path, tmp_path: Path) -> None:
    (wheel,) = python.parents[2].glob("cloister-*.whl")
    archive = tmp_path / "cloister.zip"
    shutil.copy(wheel, archive)
    names = zipfile.ZipFile(archive).namelist()
    assert len(names) > 200
    assert not [name for name in names if "simulator" in name or not name.startswith(("cloister/", "cloister-"))]
    assert strays(archive) == []
    for name, content in INTRUDERS.items():
        shutil.copy(wheel, archive)
        with zipfile.ZipFile(archive, "a") as opened:
            opened.writestr(name, content)
        (problem,) = strays(archive)
        assert name in problem
