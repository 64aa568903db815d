"""A hardened worker under `gramine-direct`, whose host says more than it may, or slips in what does not belong there.

It gets as far as asking for its verifier, which is not there. What the manifest keeps out changes nothing; a manifest
that lets it in is found by the linter, and the worker inside refuses all the same. Gramine has one console: what is
written to standard error inside comes out with standard output.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloister.enclave import lint
from cloister.enclave.configuration import take_configuration
from cloister.enclave.kinds import WORKER, EnclaveSet
from cloister.enclave.manifest import render
from cloister.errors import InvalidRequest
from fakes.sim import simulated_platform

pytestmark = [
    pytest.mark.gramine,
    pytest.mark.skipif(shutil.which("gramine-direct") is None, reason="Gramine is not installed: nothing runs in it"),
]
HOSTILE = {
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "tr_TR.UTF-8",
    "PYTHONPATH": "/s3cret",
    "PYTHONSTARTUP": "/s3cret",
    "PYTHONINSPECT": "1",
    "OPENVINO_LOG_LEVEL": "5",
    "GRPC_TRACE": "all",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "CLOISTER_WORKER_VERIFIER": "127.0.0.1:2",
    "CLOISTER_ENCLAVE": "worker simulated",
}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("founded") / "mesh"
    cloister("init", folder, "--model", "digits")
    settings = folder / "worker" / "settings.toml"
    settings.write_text(re.sub(r'^verifier = ".*"$', 'verifier = "127.0.0.1:1"', settings.read_text(), flags=re.M))
    return folder


@pytest.fixture(scope="module")
def built(mesh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "worker"
    cloister("enclave", "build", "worker", "--settings", mesh / "worker" / "settings.toml", "--out", folder)
    return folder


def cloister(*words: str | Path) -> None:
    program = Path(sys.executable).with_name("cloister")
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def run(folder: Path, *words: str, name: str = "worker", **environ: str) -> subprocess.CompletedProcess[str]:
    """Start an enclave as its host would; as large a core file as there may be is allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    return subprocess.run(
        ["gramine-direct", name, *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most)),
    )


def first_word(folder: Path, *words: str, **environ: str) -> dict[str, Any]:
    """What a worker logs of its verifier first; it has none to talk to, and would go on asking.

    On a machine that is busy, lines about that may come before.
    """
    with subprocess.Popen(
        ["gramine-direct", "worker", *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: Iterator[dict[str, Any]] = map(json.loads, process.stdout)
        said = next(line for line in lines if line["event"] == "verifier.waited_for")
        process.kill()
    assert said.pop("time")
    return said


def changed(folder: Path, name: str, before: str, after: str) -> set[str]:
    """Write a manifest of that name with one thing changed; returns which rules it breaks."""
    text = (folder / "worker.manifest").read_text()
    assert before in text
    manifest = folder / f"{name}.manifest"
    manifest.write_text(text.replace(before, after, 1))
    return {finding.rule for finding in lint.lint(manifest)[manifest]}


@pytest.mark.attack("I02")
def test_the_hosts_environment_and_arguments_change_nothing(built: Path) -> None:
    alone = first_word(built)
    assert "127.0.0.1:1:" in alone["error"]
    assert first_word(built, "--settings", "/s3cret", "-c", "print('s3cret')", **HOSTILE) == alone


@pytest.mark.attack("I02")
@pytest.mark.parametrize(
    ("rule", "before", "after", "says"),
    [
        ("M12", "", "loader.env.PYTHONPATH = { passthrough = true }\n", "'PYTHONPATH'"),
        ("M10", "", "loader.insecure__use_host_env = true\n", "environment: "),
        ("M15", '  "-I",\n', "", "Python is started with -I"),
        ("M11", "loader.env.CLOISTER_ENCLAVE", "loader.env.MISSPELT", "'MISSPELT'"),
    ],
)
def test_a_manifest_that_lets_the_host_in_is_found_and_the_worker_refuses(
    built: Path, rule: str, before: str, after: str, says: str
) -> None:
    assert rule in changed(built, "open", before, after)
    done = run(built, name="open", PYTHONPATH="s3cret")
    assert done.returncode == 2
    (line,) = done.stdout.splitlines()
    assert line.startswith("cloister-worker: ")
    assert (says in line, "s3cret" in line) == (True, False)


@pytest.mark.attack("I02")
def test_an_address_that_the_host_chooses_is_one(built: Path) -> None:
    done = run(built, CLOISTER_WORKER_ENDPOINT="unix:443")
    assert done.returncode == 2
    (line,) = done.stdout.splitlines()
    assert "endpoint must be host:port" in line


@pytest.mark.attack("I05")
def test_an_enclave_that_aborts_leaves_no_core_file(built: Path) -> None:
    program = "from cloister.kit.lifecycle import begin; begin('worker'); import os; os.write(1, b'begun'); os.abort()"
    changed(built, "aborts", '"-m",\n  "cloister.worker",', f'"-c", {json.dumps(program)},')
    done = run(built, name="aborts")
    assert done.returncode != 0
    assert done.stdout == "begun"
    assert not list(built.glob("*core*"))


INTRUDERS = {
    "root/lib/python3.11/cloister_simulator/quoter.pyc": ("M50", b""),
    "root/lib/python3.11/numpy/tests/test_x.pyc": ("M51", b""),
    "root/lib/python3.11/pdb.pyc": ("M51", b""),
    "mesh/server.key": ("M52", b""),
    "mesh/anchor_root": ("M53", simulated_platform().root_der()),
    "mesh/policy": ("M54", b'policy_id = "desk"\nversion = 1\n'),
}


@pytest.mark.attack("J11")
@pytest.mark.attack("C13")
def test_a_production_image_holds_nothing_of_a_desk_and_what_is_slipped_in_is_found(built: Path, mesh: Path) -> None:
    manifest = built / "worker.manifest"
    assert lint.lint(manifest) == {manifest: []}
    names = [str(path.relative_to(built)).lower() for path in (built / "root").rglob("*")]
    assert len(names) > 500
    for word in ("simulator", "/tests/", "/pip", "ensurepip", "idlelib", "pdb", "private_key", "root.der"):
        assert [name for name in names if word in name] == []
    configuration = take_configuration(WORKER, mesh / "worker" / "settings.toml", built)
    for name, (rule, content) in INTRUDERS.items():
        intruder = built / name
        new_folder = not intruder.parent.exists()
        intruder.parent.mkdir(parents=True, exist_ok=True)
        intruder.write_bytes(content)
        with pytest.raises(InvalidRequest, match=rule):
            lint.check(render(WORKER, EnclaveSet.HARDENED, built, configuration))
        shutil.rmtree(intruder.parent) if new_folder else intruder.unlink()
    lint.check(render(WORKER, EnclaveSet.HARDENED, built, configuration))
