"""measurement.json: reads what it writes, and nothing else; and a manifest by key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloister.enclave.measurement import Measurement, manifest_options
from cloister.errors import InvalidRequest, NotReady
from fakes.built_enclave import Built


def test_a_folder_and_its_file_are_the_same_measurement(tmp_path: Path) -> None:
    measured = Built().into(tmp_path)
    assert Measurement.read(tmp_path) == measured == Measurement.read(tmp_path / "measurement.json")


def test_it_says_each_file_that_the_manifest_trusts(tmp_path: Path) -> None:
    measured = Built().into(tmp_path)
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "certificate.pem").write_text("the host's own")
    assert measured.files == Measurement.read(tmp_path).files
    assert sorted(measured.files) == [
        "gramine/libc.so.6",
        "gramine/libsysdb.so",
        "mesh/settings.toml",
        "root/bin/python3.11",
        "root/lib/python3.11/numpy/core.py",
        "root/lib/python3.11/os.py",
        "worker.manifest",
        "worker.manifest.sgx",
    ]
    assert measured.files["root/bin/python3.11"].size_bytes == len("python")


def test_its_text_does_not_depend_on_the_order_that_files_were_found_in(tmp_path: Path) -> None:
    measured = Built().into(tmp_path)
    text = (tmp_path / "measurement.json").read_text()
    backwards = dict(reversed(measured.plain()["files"].items()))
    Measurement.from_json(json.dumps(measured.plain() | {"files": backwards}).encode()).write(tmp_path)
    assert (tmp_path / "measurement.json").read_text() == text


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("kind", "router"),
        ("set", "production"),
        ("mrenclave", "AB" * 32),
        ("mrsigner", ""),
        ("isvsvn", -1),
        ("isvprodid", True),
        ("debug", "no"),
        ("gramine", 1.9),
        ("files", {"root/x": {"sha256": "00"}}),
        ("options", []),
        ("note", "a member that nobody knows"),
    ],
)
def test_what_is_no_measurement_is_refused(tmp_path: Path, member: str, value: Any) -> None:
    plain = Built().into(tmp_path).plain()
    Measurement.from_json(json.dumps(plain).encode())
    with pytest.raises(InvalidRequest) as refused:
        Measurement.from_json(json.dumps(plain | {member: value}).encode())
    assert refused.value.reason == "measurement.malformed"


def test_where_nothing_was_built_it_says_what_builds(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="cloister enclave build") as refused:
        Measurement.read(tmp_path)
    assert refused.value.reason == "measurement.missing"


def test_a_manifest_is_told_by_key_and_its_mounts_by_their_path() -> None:
    options = manifest_options(
        'loader.env.HOME = "/tmp"\n'
        'fs.mounts = [ { path = "/lib", uri = "file:gramine" } ]\n'
        'sgx.allowed_files = ["file:host/x"]\n'
        'sgx.trusted_files = [ { uri = "file:root/x", sha256 = "00" } ]\n'
    )
    assert options == {
        "loader.env.HOME": "/tmp",
        "fs.mounts[/lib]": {"path": "/lib", "uri": "file:gramine"},
        "sgx.allowed_files": ["file:host/x"],
    }
