"""A folder for models in clear is memory, or there is none (attacks I06)."""

import os
import resource

import pytest

from cloister.errors import NotReady
from cloister.worker.memory_folder import ROOT, check_memory, laid_out


def mounted(tmp_path, *kinds, device=None):
    """A `mountinfo` in which the test's own folder is mounted as each of these."""
    number = tmp_path.stat().st_dev if device is None else device
    lines = [
        f"36 35 {os.major(number)}:{os.minor(number)} / /some\\040place rw,noatime shared:1 - {kind} none rw\n"
        for kind in kinds
    ]
    path = tmp_path / "mountinfo"
    path.write_text("22 1 259:1 / / rw - ext4 /dev/disk rw\n" + "".join(lines))
    return path


def reason_of(*arguments):
    with pytest.raises(NotReady) as caught:
        check_memory(*arguments)
    return caught.value.reason


def test_this_machine_has_memory_where_it_is_looked_for():
    check_memory(ROOT)


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_memory(tmp_path, kind):
    check_memory(tmp_path, mounted(tmp_path, kind))


@pytest.mark.attack("I06")
@pytest.mark.parametrize("kinds", [("ext4",), ("overlay",), ("nfs4",), ("tmpfs", "ext4"), ()])
def test_a_disk(tmp_path, kinds):
    assert reason_of(tmp_path, mounted(tmp_path, *kinds)) == "model.no_memory_folder"


@pytest.mark.attack("I06")
def test_no_folder(tmp_path):
    assert reason_of(tmp_path / "none", mounted(tmp_path, "tmpfs")) == "model.no_memory_folder"


@pytest.mark.attack("I06")
def test_where_nobody_says_what_is_mounted_only_gramine_is_believed(tmp_path):
    absent, gramine = tmp_path / "absent", tmp_path / "attestation"
    assert reason_of(tmp_path, absent, gramine) == "model.no_memory_folder"
    gramine.mkdir()
    check_memory(tmp_path, absent, gramine)
    assert reason_of(tmp_path / "none", absent, gramine) == "model.no_memory_folder"


@pytest.mark.attack("I06")
def test_files_are_there_for_as_long_as_they_are_needed_and_for_nobody_else():
    files = {"a": memoryview(b"1"), "deep/er/b": memoryview(b"22")}
    with laid_out(files) as folder:
        assert folder.stat().st_mode & 0o077 == 0
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(files)
        assert (folder / "deep/er/b").read_bytes() == b"22"
    assert not folder.exists()


@pytest.mark.attack("I06")
def test_they_go_when_reading_fails():
    seen = []

    def fail():
        with laid_out({"a": memoryview(b"1")}) as folder:
            seen.append(folder)
            raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        fail()
    assert not seen[0].exists()


def test_not_enough_memory():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(NotReady) as caught, laid_out({"a": memoryview(bytes(1 << 17))}):
            raise AssertionError("there is no room")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.reason == "model.memory_folder_full"
