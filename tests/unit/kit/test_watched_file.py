"""A changed file is seen by its content, where nothing else about it changes."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from cloister.errors import NotReady
from cloister.kit.watched_file import WatchedFile
from cloister.rpc.files import read_public


def watched(path: Path) -> WatchedFile:
    return WatchedFile(partial(read_public, path))


@pytest.mark.attack("I01")
def test_a_change_that_stat_does_not_show_is_seen(tmp_path: Path) -> None:
    """As under Gramine: the same length, time 0, the same inode number."""
    path = tmp_path / "file"
    path.write_bytes(b"first")
    os.utime(path, (0, 0))
    before = path.stat()
    file = watched(path)
    assert file.changed() == b"first"
    assert file.changed() is None
    with path.open("r+b") as same:
        same.write(b"other")
    os.utime(path, (0, 0))
    after = path.stat()
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)
    assert file.changed() == b"other"
    assert file.changed() is None


def test_an_empty_file_is_a_content_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    file = watched(path)
    assert file.changed() == b""
    assert file.changed() is None


def test_what_could_not_be_used_is_returned_once_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    file = watched(path)
    assert file.changed() == b"first"
    file.unread()
    assert file.changed() == b"first"
    assert file.changed() is None


def test_a_file_that_goes_and_comes_back_unchanged_has_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    file = watched(path)
    file.changed()
    path.rename(tmp_path / "away")
    with pytest.raises(NotReady):
        file.changed()
    (tmp_path / "away").rename(path)
    assert file.changed() is None
