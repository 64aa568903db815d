"""Secrets brought into an enclave's state: whole, for one reader, and nothing of theirs in what is printed."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from cloister.kit import state_import


def test_files_and_folders_are_copied_for_our_own_eyes(tmp_path: Path) -> None:
    secrets, state = tmp_path / "import", tmp_path / "state"
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "first.key").write_bytes(b"a key")
    (tmp_path / "root.key").write_bytes(b"\0" * 32)
    secrets.mkdir()
    (secrets / "root_key").symlink_to(tmp_path / "root.key")
    (secrets / "signing_keys").symlink_to(tmp_path / "keys")
    state.mkdir(mode=0o700)
    assert state_import.bring_in(secrets, state) == ["root_key", "signing_keys/first.key"]
    assert (state / "signing_keys/first.key").read_bytes() == b"a key"
    assert (state / "root_key").read_bytes() == b"\0" * 32
    modes = {stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE((state / "signing_keys").stat().st_mode) == 0o700


def test_a_secret_that_is_there_is_replaced_and_others_stay(tmp_path: Path) -> None:
    secrets, state = tmp_path / "import", tmp_path / "state"
    for folder, name, content in ((secrets, "key", b"new"), (state, "key", b"old"), (state, "other", b"kept")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    state_import.bring_in(secrets, state)
    assert {path.name: path.read_bytes() for path in state.iterdir()} == {"key": b"new", "other": b"kept"}


def test_the_key_of_a_state_is_never_replaced_by_another(tmp_path: Path) -> None:
    secrets, sealed = tmp_path / "import", tmp_path / "sealed"
    for folder in (secrets, sealed):
        folder.mkdir()
        (folder / "state.key").write_bytes(b"k" * 16)
    assert state_import.bring_in(secrets, sealed) == ["state.key"]
    (secrets / "state.key").write_bytes(b"o" * 16)
    with pytest.raises(ValueError, match=r"another state.key is in there") as refused:
        state_import.bring_in(secrets, sealed)
    assert "oooo" not in str(refused.value)
    assert (sealed / "state.key").read_bytes() == b"k" * 16


def test_what_is_no_secret_by_its_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "import").mkdir()
    (tmp_path / "import" / "disk.img").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ValueError, match=r"disk.img is far too large"):
        state_import.bring_in(tmp_path / "import", tmp_path / "state")


def test_it_says_what_it_brought_in_by_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "import").mkdir()
    (tmp_path / "import" / "key").write_bytes(b"planted canary")
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(sys, "argv", ["state_import", str(tmp_path / "import"), str(tmp_path / "state")])
    assert state_import.main() == 0
    assert capsys.readouterr().out == "brought in: key\n"
