from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import NotReady, SealBroken
from cloister.provisioner.vault import FileVault, RecordId
from cloister.seal.keys import Secret

RECORD = RecordId(model_name="iris", model_version=1, manifest_sha256=b"m" * 32, owner_key=b"o" * 32)
KEY = Secret(bytes(range(32)))


def root_file(folder: Path, raw: bytes = b"r" * 32, mode: int = 0o600) -> Path:
    path = folder / "root.key"
    path.write_bytes(raw)
    path.chmod(mode)
    return path


@pytest.fixture
def vault(tmp_path: Path) -> FileVault:
    return FileVault.opened(root_file(tmp_path))


def test_a_key_comes_back(vault: FileVault, tmp_path: Path) -> None:
    wrapped = vault.wrap(RECORD, KEY)
    assert KEY.reveal() not in wrapped
    assert FileVault.opened(tmp_path / "root.key").unwrap(RECORD, wrapped) == KEY


def test_two_wraps_of_one_key_differ(vault: FileVault) -> None:
    assert vault.wrap(RECORD, KEY) != vault.wrap(RECORD, KEY)


@pytest.mark.parametrize(
    "change",
    [{"model_name": "other"}, {"model_version": 2}, {"manifest_sha256": b"x" * 32}, {"owner_key": b"x" * 32}],
    ids=lambda change: next(iter(change)),
)
def test_a_key_opens_for_its_own_record_only(vault: FileVault, change: dict[str, Any]) -> None:
    wrapped = vault.wrap(RECORD, KEY)
    with pytest.raises(SealBroken):
        vault.unwrap(replace(RECORD, **change), wrapped)


@given(position=st.integers(0, 60), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(position: int, bit: int) -> None:
    vault = FileVault(Secret(b"r" * 32))
    wrapped = bytearray(vault.wrap(RECORD, KEY))
    wrapped[position] ^= 1 << bit
    with pytest.raises(SealBroken):
        vault.unwrap(RECORD, bytes(wrapped))


@given(st.binary(max_size=80))
def test_any_bytes_do_not_unwrap(raw: bytes) -> None:
    with pytest.raises(SealBroken):
        FileVault(Secret(b"r" * 32)).unwrap(RECORD, raw)


def test_another_root_key_has_another_name_and_opens_nothing(vault: FileVault) -> None:
    other = FileVault(Secret(b"x" * 32))
    assert other.key_id() != vault.key_id()
    with pytest.raises(SealBroken):
        other.unwrap(RECORD, vault.wrap(RECORD, KEY))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666, 0o610])
def test_a_root_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(NotReady, match="open to other users") as refused:
        FileVault.opened(root_file(tmp_path, mode=mode))
    assert refused.value.reason == "root_key.unusable"


@pytest.mark.parametrize("raw", [b"", b"r" * 31, b"r" * 33])
def test_a_root_key_of_another_length_is_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(NotReady, match="not 32 bytes"):
        FileVault.opened(root_file(tmp_path, raw))


def test_a_root_key_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="cannot be read"):
        FileVault.opened(tmp_path / "root.key")


def test_a_link_to_somewhere_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "link").symlink_to(root_file(tmp_path))
    with pytest.raises(NotReady, match="link"):
        FileVault.opened(tmp_path / "state" / "link")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReady):
        FileVault.opened(tmp_path)
