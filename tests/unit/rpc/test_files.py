"""Files for our own eyes are so from the first byte, and are whole or not there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloister.errors import NotReady
from cloister.rpc import files
from cloister.rpc.files import create_private, read_guarded, read_private, read_public, read_whole, replace_private
from fakes.hostile_files import KINDS, HostileFile, in_its_place


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("write", [create_private, replace_private])
def test_it_is_its_owners_alone_before_it_holds_anything(
    write: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    fdopen = os.fdopen

    def opened(descriptor: int, how: str) -> object:
        status = os.fstat(descriptor)
        assert status.st_size == 0
        modes.append(stat.S_IMODE(status.st_mode))
        return fdopen(descriptor, how)

    monkeypatch.setattr(os, "fdopen", opened)
    assert callable(write)
    write(tmp_path / "own", b"content")
    assert modes == [0o600]
    assert mode(tmp_path / "own") == 0o600
    assert read_private(tmp_path / "own") == b"content"


def test_what_is_there_is_not_created_again(tmp_path: Path) -> None:
    create_private(tmp_path / "own", b"first")
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "own", b"second")
    assert (tmp_path / "own").read_bytes() == b"first"


def test_what_is_replaced_hands_on_neither_its_mode_nor_its_readers(tmp_path: Path) -> None:
    path, other = tmp_path / "own", tmp_path / "other"
    path.write_bytes(b"for all")
    with path.open("rb") as reader:
        replace_private(path, b"content")
        assert reader.read() == b"for all"
    assert (mode(path), path.read_bytes()) == (0o600, b"content")
    other.write_bytes(b"elsewhere")
    path.unlink()
    path.symlink_to(other)
    replace_private(path, b"content")
    assert not path.is_symlink()
    assert other.read_bytes() == b"elsewhere"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other", "own"]


def test_what_cannot_be_written_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own"
    path.write_bytes(b"before")

    def full(staged: Path, _content: bytes) -> None:
        staged.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "create_private", full)
    with pytest.raises(OSError, match="No space"):
        replace_private(path, b"content")
    assert [each.name for each in tmp_path.iterdir()] == ["own"]
    assert path.read_bytes() == b"before"


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    replace_private(Path(os.devnull), b"content")
    assert Path(os.devnull).is_char_device()
    with pytest.raises(IsADirectoryError):
        replace_private(tmp_path, b"content")


@pytest.mark.attack("J05")
@pytest.mark.parametrize(
    ("mode", "good"), [(0o600, True), (0o644, True), (0o440, True), (0o620, False), (0o602, False)]
)
def test_what_decides_may_be_read_by_others_and_written_by_nobody_else(tmp_path: Path, mode: int, good: bool) -> None:
    path = tmp_path / "tenants.toml"
    path.write_bytes(b"content")
    path.chmod(mode)
    if good:
        assert read_guarded(path) == b"content"
    else:
        with pytest.raises(NotReady, match="chmod go-w") as raised:
            read_guarded(path)
        assert raised.value.reason == "file.exposed"


@pytest.mark.attack("J05")
def test_links_within_a_folder_are_followed_as_kubernetes_makes_them(tmp_path: Path) -> None:
    inside = tmp_path / "mounted"
    (inside / "..data").mkdir(parents=True)
    (inside / "..data" / "tenants.toml").write_bytes(b"content")
    (inside / "..data" / "tenants.toml").chmod(0o644)
    (inside / "tenants.toml").symlink_to(Path("..data") / "tenants.toml")
    assert read_guarded(inside / "tenants.toml") == b"content"
    (tmp_path / "elsewhere").write_bytes(b"content")
    (inside / "out.toml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotReady, match="leads out of its folder"):
        read_guarded(inside / "out.toml")


READERS = (read_public, read_private, read_guarded)


@pytest.mark.attack("I01")
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, read: Callable[[Path], bytes], kind: str) -> None:
    in_its_place(tmp_path / "own", kind)
    with pytest.raises(NotReady) as raised:
        read(tmp_path / "own")
    assert raised.value.reason in ("file.unreadable", "file.exposed")


@pytest.mark.attack("I01")
@pytest.mark.parametrize("read", READERS)
def test_no_more_is_taken_in_than_a_file_may_hold(tmp_path: Path, read: Callable[[Path], bytes]) -> None:
    create_private(tmp_path / "own", b"")
    os.truncate(tmp_path / "own", files.MAX_FILE_BYTES)
    assert len(read(tmp_path / "own")) == files.MAX_FILE_BYTES
    os.truncate(tmp_path / "own", 1 << 40)  # sparse
    with pytest.raises(NotReady, match="far too large"):
        read(tmp_path / "own")


@pytest.mark.attack("I01")
@pytest.mark.parametrize("most_bytes", [1, 1000, 1 << 20])
def test_short_reads_give_the_whole_file_and_an_endless_one_ends(most_bytes: int) -> None:
    content = bytes(100_000)
    assert read_whole(HostileFile(content, most_bytes), 100_000) == content

    def grow(file: HostileFile, _read: int) -> None:
        file.content += bytes(1000)

    endless = HostileFile(b"", most_bytes, before=grow)
    with pytest.raises(OverflowError):
        read_whole(endless, 10_000)
    assert endless.at <= 10_000 + (64 << 10)


@pytest.mark.attack("I01")
def test_a_read_that_breaks_off_with_no_end_is_no_content() -> None:
    with pytest.raises(BlockingIOError):
        read_whole(HostileFile(b"part", said=lambda _got: None), 100)


@pytest.mark.attack("I01")
def test_a_file_swapped_after_it_was_opened_is_not_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mode and owner are those of the bytes that are returned: both come from one open file."""
    path = tmp_path / "own"
    create_private(path, b"content")
    true = os.fstat

    def swap(descriptor: int) -> os.stat_result:
        found = true(descriptor)
        path.unlink(missing_ok=True)
        path.write_bytes(b"the host's")
        path.chmod(0o666)
        return found

    monkeypatch.setattr(os, "fstat", swap)
    assert read_private(path) == b"content"
