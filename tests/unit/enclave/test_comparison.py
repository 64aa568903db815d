"""What changed between two builds: identity, manifest and files, and nothing where nothing did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cloister.enclave.comparison import Happened, compare, part_of
from cloister.enclave.kinds import VERIFIER, EnclaveSet
from fakes.built_enclave import Built


def test_two_builds_of_the_same_are_the_same(tmp_path: Path) -> None:
    assert compare(Built().into(tmp_path / "one"), Built().into(tmp_path / "two")).same


def test_each_file_that_changed_is_named_with_what_it_was_and_is(tmp_path: Path) -> None:
    before = Built().into(tmp_path / "before")
    changed: dict[str, str | None] = {
        "root/lib/python3.11/numpy/core.py": "numbers = 2222",
        "root/lib/python3.11/os.py": None,
        "root/lib/system/libz.so.1": "zlib",
    }
    found = compare(before, Built(code=changed).into(tmp_path / "after"))
    files = {file.path: file for file in found.files}
    assert {path: (file.happened, file.part) for path, file in files.items() if "/" in path} == {
        "root/lib/python3.11/numpy/core.py": (Happened.CHANGED, "numpy"),
        "root/lib/python3.11/os.py": (Happened.REMOVED, "Python"),
        "root/lib/system/libz.so.1": (Happened.ADDED, "libraries of the system"),
    }
    numpy = files["root/lib/python3.11/numpy/core.py"]
    assert (numpy.before and numpy.before.size_bytes, numpy.after and numpy.after.size_bytes) == (11, 14)
    assert [each.key for each in found.identity] == ["mrenclave"]


def test_an_option_of_the_manifest_is_told_by_key(tmp_path: Path) -> None:
    found = compare(Built().into(tmp_path / "before"), Built(threads=48).into(tmp_path / "after"))
    assert [(each.key, each.before, each.after) for each in found.options] == [("sgx.max_threads", 32, 48)]
    assert [file.path for file in found.files] == ["worker.manifest", "worker.manifest.sgx"]


def test_another_kind_or_set_is_another_identity(tmp_path: Path) -> None:
    found = compare(
        Built().into(tmp_path / "before"),
        Built(kind=VERIFIER, enclave_set=EnclaveSet.SIMULATED).into(tmp_path / "after"),
    )
    assert [each.key for each in found.identity] == ["isvprodid", "kind", "set"]


def test_a_signed_build_is_the_same_as_one_that_nobody_signed_and_not_as_one_of_another_signer(tmp_path: Path) -> None:
    """An auditor builds what the operator has published, and cannot sign it."""
    mine = Built().into(tmp_path)
    signed, other = (replace(mine, mrsigner=digit * 64) for digit in "ab")
    assert compare(signed, mine).same
    assert [each.key for each in compare(signed, other).identity] == ["mrsigner"]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("gramine/libc.so.6", "Gramine's runtime"),
        ("mesh/settings.toml", "measured part of the mesh"),
        ("root/bin/python3.11", "Python"),
        ("root/bin/redis-server", "program"),
        ("root/lib/python3.11/lib-dynload/_ssl.so", "Python"),
        ("root/lib/python3.11/json/decoder.pyc", "Python"),
        ("root/lib/python3.11/typing_extensions.pyc", "typing_extensions"),
        ("root/lib/python3.11/cloister/worker/app.pyc", "cloister"),
        ("root/lib/system/libstdc++.so.6", "libraries of the system"),
        ("worker.manifest", "manifests"),
    ],
)
def test_a_path_belongs_to_a_part_that_people_know(path: str, part: str) -> None:
    assert part_of(path) == part
