"""What starts an enclave: the program of its set, in a place of its own, with what the host may choose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloister.enclave import gramine, run, secret_import
from cloister.enclave.configuration import Configuration
from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.measurement import Measurement
from cloister.enclave.place import lay_out, leads
from cloister.enclave.signers import KeySigner
from cloister.enclave.signing import sign
from cloister.errors import AlreadyExists, InvalidRequest, NotReady
from fakes.built_enclave import Built

LISTEN = "CLOISTER_WORKER_LISTEN"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with Gramine's programs on its path, which start nothing, and with SGX."""
    programs, devices = tmp_path / "bin", tmp_path / "dev"
    for folder, names in ((programs, (gramine.DIRECT, gramine.SGX)), (devices, ("enclave", "aesm"))):
        folder.mkdir()
        for name in names:
            (folder / name).write_text("#!/bin/sh\nexit 1\n")
            (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(run, "DEVICE", devices / "enclave")
    monkeypatch.setattr(run, "AESM", devices / "aesm")
    return devices


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    Built(enclave_set=EnclaveSet.SIMULATED).into(tmp_path / "built")
    link_host(tmp_path / "built")
    return tmp_path / "built"


@pytest.fixture
def hardened(tmp_path: Path, signer: KeySigner) -> Path:
    Built().into(tmp_path / "built")
    link_host(tmp_path / "built")
    sign(tmp_path / "built", signer)
    return tmp_path / "built"


def link_host(folder: Path) -> None:
    for part in ("host", "import"):
        (folder / part).mkdir(exist_ok=True)
    (folder / "host" / "models_dir").symlink_to(folder.parent)


def launched(folder: Path, place: Path, **environ: str) -> run.Launch:
    return run.launch(folder, place, run.checked(folder), environ)


def test_a_simulated_enclave_is_started_by_gramine_direct_in_its_place(simulated: Path, tmp_path: Path) -> None:
    launch = launched(simulated, tmp_path / "place")
    program, enclave = launch.command
    assert Path(program).name == gramine.DIRECT
    assert (enclave, launch.place) == (str(tmp_path / "place" / "worker"), tmp_path / "place")
    assert (tmp_path / "place" / "worker.manifest").read_bytes() == (simulated / "worker.manifest").read_bytes()


def test_a_hardened_one_by_gramine_sgx_and_nothing_else(hardened: Path, tmp_path: Path) -> None:
    assert Path(launched(hardened, tmp_path / "place").command[0]).name == gramine.SGX
    assert (tmp_path / "place" / "worker.sig").is_file()


def test_the_host_chooses_what_the_kind_lets_it(simulated: Path, tmp_path: Path) -> None:
    launch = launched(simulated, tmp_path / "place", **{LISTEN: "127.0.0.1:1", "LD_PRELOAD": "evil.so", "PATH": "/bin"})
    assert launch.environment == {LISTEN: "127.0.0.1:1", "PATH": "/bin"}


@pytest.mark.parametrize("missing", ["enclave", "aesm"])
def test_without_sgx_a_sentence_says_what_is_missing(
    hardened: Path, tmp_path: Path, installed: Path, missing: str
) -> None:
    (installed / missing).unlink()
    with pytest.raises(NotReady, match=f"there is no {installed / missing}") as refused:
        launched(hardened, tmp_path / "place")
    assert refused.value.reason == "sgx.missing"


def test_a_device_that_is_closed_to_us_is_named(
    hardened: Path, tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: path != installed / "enclave")
    with pytest.raises(NotReady, match="enclave is not open to this user"):
        launched(hardened, tmp_path / "place")


def test_without_gramine_a_sentence_says_what_to_install(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NotReady, match="install the package 'gramine'") as refused:
        launched(simulated, tmp_path / "place")
    assert refused.value.reason == "gramine.missing"


def test_what_nobody_signed_is_not_started(tmp_path: Path) -> None:
    Built().into(tmp_path / "built")
    with pytest.raises(NotReady, match="nobody has signed") as refused:
        run.checked(tmp_path / "built")
    assert refused.value.reason == "sigstruct.unsigned"


def test_what_was_changed_is_not_started(simulated: Path) -> None:
    (simulated / "root/lib/python3.11/os.py").write_text("something else")
    with pytest.raises(InvalidRequest, match=r"root/lib/python3\.11/os\.py differs") as refused:
        run.checked(simulated)
    assert refused.value.reason == "measurement.mismatched"


def test_two_places_of_one_build_share_what_is_measured_and_no_state(simulated: Path, tmp_path: Path) -> None:
    first, second = (launched(simulated, tmp_path / name).place for name in ("first", "second"))
    (first / "host" / "state" / "secret").write_text("of the first")
    assert not list((second / "host" / "state").iterdir())
    assert (first / "root").resolve() == (second / "root").resolve() == simulated / "root"
    assert leads(first / "host") == leads(simulated / "host")


def test_a_place_follows_its_build_and_keeps_its_state(simulated: Path, tmp_path: Path) -> None:
    place = launched(simulated, tmp_path / "place").place
    (place / "host" / "state" / "kept").write_text("by the enclave")
    (place / "host" / "gone").symlink_to(tmp_path)
    (simulated / "host" / "models_dir").unlink()
    (simulated / "host" / "models_dir").symlink_to(tmp_path / "elsewhere")
    launched(simulated, place)
    assert leads(place / "host") == {"models_dir": tmp_path / "elsewhere"}
    assert (place / "host" / "state" / "kept").exists()


def test_files_of_the_host_may_lie_elsewhere_than_where_it_was_built(simulated: Path, tmp_path: Path) -> None:
    here = Configuration(
        settings="", measured={}, host={"models_dir": tmp_path / "here"}, secrets={"root.key": tmp_path / "key"}
    )
    place = run.launch(simulated, tmp_path / "place", run.checked(simulated), {}, here).place
    assert leads(place / "host") == {"models_dir": tmp_path / "here"}
    assert leads(place / "import") == {"root.key": tmp_path / "key"}


def test_without_links_of_a_machine_a_place_has_none(simulated: Path, tmp_path: Path) -> None:
    (simulated / "host" / "models_dir").unlink()
    for part in ("host", "import"):
        (simulated / part).rmdir()
    assert leads(launched(simulated, tmp_path / "place").place / "host") == {}


def test_what_brings_secrets_in_may_lie_in_another_folder(simulated: Path, tmp_path: Path) -> None:
    measured = Measurement.read(simulated)
    (tmp_path / "importer").mkdir()
    importer = tmp_path / "importer" / f"{measured.kind.importer}.manifest"
    importer.write_text("with the digests of secrets")
    lay_out(measured.kind, simulated, tmp_path / "place", importer=importer.parent)
    assert (tmp_path / "place" / importer.name).resolve() == importer
    lay_out(measured.kind, simulated, tmp_path / "place")
    assert not (tmp_path / "place" / importer.name).exists()


def test_a_folder_of_somebody_else_is_no_place(simulated: Path, tmp_path: Path) -> None:
    (tmp_path / "place" / "root").mkdir(parents=True)
    with pytest.raises(AlreadyExists, match="is in the way"):
        launched(simulated, tmp_path / "place")


def test_secrets_are_awaited_until_they_are_in_the_state_and_again_when_they_change(
    simulated: Path, tmp_path: Path
) -> None:
    secrets = tmp_path / "keys"
    secrets.mkdir()
    (secrets / "first.key").write_text("a key")
    (simulated / "import" / "signing_keys").symlink_to(secrets)
    place = launched(simulated, tmp_path / "place").place
    assert secret_import.awaited(place) == ["signing_keys"]
    inside = place / "host" / "sealed" / "signing_keys" / "first.key"
    inside.parent.mkdir()
    inside.write_text("encrypted")
    assert secret_import.awaited(place) == []
    os.utime(secrets / "first.key", (inside.stat().st_mtime + 1,) * 2)
    assert secret_import.awaited(place) == ["signing_keys"]
    (secrets / "first.key").unlink()
    assert secret_import.awaited(place) == []


def test_secrets_that_were_not_there_at_the_build_cannot_be_brought_in(simulated: Path, tmp_path: Path) -> None:
    place = launched(simulated, tmp_path / "place").place
    with pytest.raises(NotReady, match="were not there when it was built") as refused:
        secret_import.bring_in(Measurement.read(simulated), place)
    assert refused.value.reason == "secrets.kept_out"


def test_what_gramine_says_is_told_when_secrets_stay_outside(simulated: Path, tmp_path: Path) -> None:
    program = Path(os.environ["PATH"]) / gramine.DIRECT
    program.write_text("#!/bin/sh\necho Operation not permitted >&2\nexit 1\n")
    measured = Measurement.read(simulated)
    (simulated / f"{measured.kind.importer}.manifest").write_text("")
    lay_out(measured.kind, simulated, tmp_path / "place")
    with pytest.raises(NotReady, match="Operation not permitted"):
        secret_import.bring_in(measured, tmp_path / "place")
