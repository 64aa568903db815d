"""Where Gramine is missing, too old or not whole, one sentence says what to install; and what it is kept from."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.enclave import gramine
from cloister.enclave.gramine import LIBRARIES, copy_runtime, installed
from cloister.errors import InvalidRequest, NotReady


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that answer as Gramine's do, and a folder with what they say lies there."""
    own = tmp_path / "own"
    for name in ("libsysdb.so", "sgx/libpal.so", *(f"runtime/{name}" for name in LIBRARIES), "runtime/libmvec.so.1"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(f"content of {name}")
    answers = {
        "gramine-direct": "echo 'Gramine 1.9 (v1.9)'",
        "gramine-manifest": f"""printf 'libos = "{own}/libsysdb.so"\\nruntime = "{own}/runtime"\\nown = "{own}"\\n'""",
        "gramine-sgx-sign": "true",
    }
    (tmp_path / "bin").mkdir()
    for name, answer in answers.items():
        write(tmp_path / "bin" / name, answer)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def write(program: Path, answer: str) -> None:
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)


def missing() -> str:
    with pytest.raises(NotReady, match="install the package 'gramine'") as refused:
        installed()
    assert refused.value.reason == "gramine.missing"
    return str(refused.value)


def test_it_says_where_it_lies(programs: Path) -> None:
    found = installed()
    assert (found.version, found.loader) == ("1.9", programs / "own/sgx/libpal.so")


def test_of_its_runtime_only_what_is_needed_goes_into_an_enclave(programs: Path) -> None:
    (programs / "worker").mkdir()
    copy_runtime(installed(), programs / "worker")
    names = {path.name for path in (programs / "worker" / "gramine").iterdir()}
    assert names == {"libsysdb.so", *LIBRARIES}


@pytest.mark.parametrize("name", ["gramine-direct", "gramine-manifest", "gramine-sgx-sign"])
def test_a_program_that_is_missing_is_named(programs: Path, name: str) -> None:
    (programs / "bin" / name).unlink()
    assert f"no {name} on the path" in missing()


@pytest.mark.parametrize("name", ["libsysdb.so", "sgx/libpal.so", "runtime/libc.so.6"])
def test_a_file_that_is_missing_is_named(programs: Path, name: str) -> None:
    (programs / "own" / name).unlink()
    assert f"has no {name.rpartition('/')[2]}" in missing()


def test_an_old_one_is_not_used(programs: Path) -> None:
    write(programs / "bin/gramine-direct", "echo 'Gramine 1.7 (v1.7)'")
    assert "version 1.7" in missing()


def test_a_later_one_is(programs: Path) -> None:
    write(programs / "bin/gramine-direct", "echo 'Gramine 1.10post~UNRELEASED'")
    assert installed().version == "1.10"


def test_what_it_objects_to_is_told_in_its_words(programs: Path) -> None:
    write(programs / "bin/gramine-manifest", "echo 'ERROR: manifest failed validation: extra keys' >&2; exit 1")
    (programs / "worker.manifest").write_text("")
    with pytest.raises(InvalidRequest, match="extra keys") as refused:
        gramine.check_manifest(programs / "worker.manifest")
    assert refused.value.reason == "manifest.refused"
