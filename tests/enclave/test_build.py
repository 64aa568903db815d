"""Enclaves that Gramine measures: the same inputs give the same enclave, and what is started is what was measured."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cloister.enclave.check import check_folder
from cloister.enclave.importer import sign_all
from cloister.enclave.kinds import REDIS, WORKER, EnclaveSet
from cloister.enclave.measurement import Measurement, manifest_options, measure_files
from cloister.enclave.signers import new_key
from cloister.enclave.signing import read_sigstruct, sign, unsigned_file
from cloister.errors import InvalidRequest
from fakes.enclave_folder import write_settings

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


def built(
    kind: str, settings: Path, out: Path, enclave_set: EnclaveSet, environment: Mapping[str, str] = {}
) -> Measurement:
    cloister("enclave", "build", kind, "--settings", settings, "--out", out, "--set", enclave_set, **environment)
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
    built("worker", mesh / "worker" / "settings.toml", folder, EnclaveSet.HARDENED)
    return folder


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A folder in memory, whose files are found in another order than those of a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_the_same_inputs_give_the_same_enclave_elsewhere(worker: Path, mesh: Path, other_disk: Path) -> None:
    shutil.copytree(mesh, other_disk / "mesh")
    settings, place = other_disk / "mesh" / "worker" / "settings.toml", other_disk / "else" / "where"
    assert built("worker", settings, place, EnclaveSet.HARDENED, ELSEWHERE) == Measurement.read(worker)
    for name in ("worker.manifest", "worker.manifest.sgx", "worker.unsigned.sig", "measurement.json"):
        assert (place / name).read_bytes() == (worker / name).read_bytes()


def test_gramine_measures_again_what_it_measured(worker: Path) -> None:
    assert check_folder(worker).measured_again


def test_a_manifest_that_was_changed_with_its_measurement_is_noticed(worker: Path, tmp_path: Path) -> None:
    """Whoever changes both; without Gramine to measure again, only the signature would tell."""
    copy = tmp_path / "worker"
    shutil.copytree(worker, copy, symlinks=True)
    for name in ("worker.manifest", "worker.manifest.sgx"):
        text = (copy / name).read_text()
        changed = re.sub(r"^(sgx\.)?max_threads = \d+$", r"\1max_threads = 48", text, flags=re.MULTILINE)
        assert changed != text
        (copy / name).write_text(changed)
    measured = Measurement.read(copy)
    options = manifest_options((copy / "worker.manifest.sgx").read_text())
    replace(measured, files=measure_files(copy, WORKER), options=options).write(copy)
    with pytest.raises(InvalidRequest, match="Gramine measures another enclave") as refused:
        check_folder(copy)
    assert refused.value.reason == "measurement.mismatched"


def test_gramine_reads_the_signature_that_we_make(worker: Path) -> None:
    signed = sign(worker, new_key())
    said = subprocess.check_output(["gramine-sgx-sigstruct-view", "--output-format", "json", worker / "worker.sig"])
    found = json.loads(said)
    assert (found["mr_enclave"], found["mr_signer"]) == (signed.mrenclave, signed.mrsigner)
    assert (found["isv_prod_id"], found["isv_svn"], found["debug_enclave"]) == (1, 1, False)


def test_what_brings_secrets_in_is_signed_if_gramine_measures_it_as_the_service_s_importer(
    mesh: Path, tmp_path: Path
) -> None:
    folder, name = tmp_path / "provisioner", "provisioner-import"
    built("provisioner", mesh / "provisioner" / "settings.toml", folder, EnclaveSet.HARDENED)
    place, signer = unsigned_file(folder, name), new_key()
    honest = read_sigstruct(place)
    place.write_bytes(replace(honest, enclavehash=bytes([1]) * 32).encode())
    with pytest.raises(InvalidRequest) as refused:
        sign_all(folder, signer)
    assert refused.value.reason == "importer.mismatched"
    assert list(folder.glob(f"*{name}.sig")) == []
    place.write_bytes(honest.encode())
    signed, importer = sign_all(folder, signer), read_sigstruct(folder / f"{name}.sig")
    importer.verify()
    assert (importer.mrsigner.hex(), importer.isvprodid) == (signed.mrsigner, signed.isvprodid)
    assert importer.enclavehash.hex() != signed.mrenclave


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Mapping[EnclaveSet, Path]:
    """The smallest enclave, of each set."""
    folder = tmp_path_factory.mktemp("redis")
    settings = write_settings(folder, REDIS)
    for enclave_set in EnclaveSet:
        built("redis", settings, folder / enclave_set, enclave_set)
    return {enclave_set: folder / enclave_set for enclave_set in EnclaveSet}


def test_a_debug_enclave_shares_neither_identity_nor_signer_with_a_hardened_one(
    redis: Mapping[EnclaveSet, Path],
) -> None:
    hardened, debug = sign(redis[EnclaveSet.HARDENED], new_key()), Measurement.read(redis[EnclaveSet.DEBUG])
    assert debug.mrsigner
    for name in ("mrenclave", "mrsigner", "isvprodid", "debug"):
        assert getattr(debug, name) != getattr(hardened, name)
    # It was signed by Gramine with a key that is gone: what Gramine makes is what we read.
    read_sigstruct(redis[EnclaveSet.DEBUG] / "redis.sig").verify()
    assert check_folder(redis[EnclaveSet.DEBUG]).measured_again
    with pytest.raises(InvalidRequest) as refused:
        sign(redis[EnclaveSet.DEBUG], new_key())
    assert refused.value.reason == "enclave.not_hardened"


def test_a_simulated_enclave_is_measured_and_has_nothing_to_be_started_with_under_sgx(
    redis: Mapping[EnclaveSet, Path],
) -> None:
    simulated = Measurement.read(redis[EnclaveSet.SIMULATED])
    assert simulated.mrenclave != Measurement.read(redis[EnclaveSet.HARDENED]).mrenclave
    assert simulated.mrsigner is None
    names = {path.name for path in redis[EnclaveSet.SIMULATED].iterdir()}
    assert [name for name in names if ".sig" in name or ".sgx" in name] == []
    assert check_folder(redis[EnclaveSet.SIMULATED]).measured_again


def test_a_build_that_fails_leaves_nothing(mesh: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("cloister")
    words = ("enclave", "build", "worker", "--settings", mesh / "mesh.toml", "--out", tmp_path / "out" / "worker")
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=300)
    assert (done.returncode, list(tmp_path.rglob("*"))) == (1, [tmp_path / "out"]), done.stderr
