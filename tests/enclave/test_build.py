"""Enclaves that Gramine measures: the same inputs give the same enclave, and what is started is what was measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cloister.enclave.check import check_folder
from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.measurement import Measurement
from cloister.enclave.signers import new_key
from cloister.enclave.signing import read_sigstruct, sign
from cloister.errors import InvalidRequest

pytestmark = [
    pytest.mark.gramine,
    pytest.mark.skipif(
        shutil.which("gramine-sgx-sign") is None, reason="Gramine is not installed: nothing is measured"
    ),
]
# What a machine may have otherwise, and a build must not see.
ELSEWHERE = {
    "LC_ALL": "tr_TR.UTF-8",
    "TZ": "Pacific/Kiritimati",
    "HOME": "/nonexistent",
    "PYTHONHASHSEED": "7",
    "SOURCE_DATE_EPOCH": "1",
}


def cloister(*words: str | Path, **environment: str) -> str:
    """Run the command as another user of another machine would."""
    program = Path(sys.executable).with_name("cloister")
    done = subprocess.run(
        [program, *words], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, umask=0o077
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(mesh: Path, out: Path, enclave_set: EnclaveSet, environment: Mapping[str, str] = {}) -> Measurement:
    settings = mesh / "worker" / "settings.toml"
    cloister("enclave", "build", "worker", "--settings", settings, "--out", out, "--set", enclave_set, **environment)
    return Measurement.read(out)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("founded") / "mesh"
    cloister("init", folder, "--model", "digits")
    return folder


@pytest.fixture(scope="module")
def worker(mesh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hardened worker."""
    folder = tmp_path_factory.mktemp("built") / "worker"
    build(mesh, folder, EnclaveSet.HARDENED)
    return folder


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A folder in memory, whose files are found in another order than those of a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_the_same_inputs_give_the_same_enclave_elsewhere(worker: Path, mesh: Path, other_disk: Path) -> None:
    shutil.copytree(mesh, other_disk / "mesh")
    again = build(other_disk / "mesh", other_disk / "else" / "where", EnclaveSet.HARDENED, ELSEWHERE)
    assert again == Measurement.read(worker)
    for name in ("worker.manifest", "worker.manifest.sgx", "worker.unsigned.sig", "measurement.json"):
        assert (other_disk / "else" / "where" / name).read_bytes() == (worker / name).read_bytes()


def test_gramine_measures_again_what_it_measured(worker: Path) -> None:
    assert check_folder(worker).measured_again


def test_a_manifest_that_was_changed_afterwards_is_noticed(worker: Path, tmp_path: Path) -> None:
    copy = tmp_path / "worker"
    shutil.copytree(worker, copy, symlinks=True)
    manifest = copy / "worker.manifest"
    text = manifest.read_text().replace('loader.log_level = "error"', 'loader.log_level = "trace"')
    manifest.write_text(text)
    assert [file.path for file in check_folder(copy).changed] == ["worker.manifest"]
    for_sgx = copy / "worker.manifest.sgx"
    for_sgx.write_text(for_sgx.read_text().replace("debug = false", "debug = true"))
    manifest.write_text((worker / "worker.manifest").read_text())
    with pytest.raises(InvalidRequest) as refused:
        check_folder(copy)
    assert refused.value.reason == "measurement.mismatched"


def test_gramine_reads_the_signature_that_we_make(worker: Path) -> None:
    signed = sign(worker, new_key())
    said = subprocess.check_output(["gramine-sgx-sigstruct-view", "--output-format", "json", worker / "worker.sig"])
    found = json.loads(said)
    assert (found["mr_enclave"], found["mr_signer"]) == (signed.mrenclave, signed.mrsigner)
    assert (found["isv_prod_id"], found["isv_svn"], found["debug_enclave"]) == (1, 1, False)


def test_a_debug_worker_shares_neither_identity_nor_signer_with_a_hardened_one(
    worker: Path, mesh: Path, tmp_path: Path
) -> None:
    hardened = sign(worker, new_key())
    debug = build(mesh, tmp_path / "debug", EnclaveSet.DEBUG)
    assert debug.debug
    assert debug.mrsigner
    for name in ("mrenclave", "mrsigner", "isvprodid", "debug"):
        assert getattr(debug, name) != getattr(hardened, name)
    # It was signed by Gramine with a key that is gone: what Gramine makes is what we read.
    read_sigstruct(tmp_path / "debug" / "worker.sig").verify()
    assert check_folder(tmp_path / "debug").measured_again
    with pytest.raises(InvalidRequest) as refused:
        sign(tmp_path / "debug", new_key())
    assert refused.value.reason == "enclave.not_hardened"


def test_a_simulated_worker_is_measured_and_has_nothing_to_be_started_with_under_sgx(
    worker: Path, mesh: Path, tmp_path: Path
) -> None:
    simulated = build(mesh, tmp_path / "simulated", EnclaveSet.SIMULATED)
    assert simulated.mrenclave != Measurement.read(worker).mrenclave
    assert simulated.mrsigner is None
    assert [
        path.name for path in (tmp_path / "simulated").iterdir() if ".sig" in path.name or ".sgx" in path.name
    ] == []


def test_a_build_that_fails_leaves_nothing(mesh: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("cloister")
    words = ("enclave", "build", "worker", "--settings", mesh / "mesh.toml", "--out", tmp_path / "out" / "worker")
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=300)
    assert (done.returncode, list(tmp_path.rglob("*"))) == (1, [tmp_path / "out"]), done.stderr
