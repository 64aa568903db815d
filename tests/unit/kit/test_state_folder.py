"""The folder of a service's state is its own user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.errors import NotReady
from cloister.kit.state_folder import private_folder


def test_the_state_folder_is_made_private(tmp_path: Path) -> None:
    made = private_folder(tmp_path / "a" / "state")
    assert made.stat().st_mode & 0o777 == 0o700
    assert private_folder(made) == made


def test_a_state_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(NotReady, match="cannot be used"):
        private_folder(tmp_path / "state")


def test_a_state_folder_that_others_can_read(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o750)
    with pytest.raises(NotReady, match="chmod 700"):
        private_folder(tmp_path / "state")
