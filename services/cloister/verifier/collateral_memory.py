"""What the verifier remembers of collateral past a restart: how new the newest of each part was.

Whatever keeps it must never forget or lower a number: an answer that is too low lets old collateral come back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from cloister.appraisal import freshness
from cloister.errors import NotReady, Unavailable

FILE_NAME: Final = "collateral-seen.json"  # in the verifier's state_dir


class CollateralMemory(Protocol):
    """How new each part was, by its name; a larger list is newer. Blocking and thread safe."""

    def newest(self) -> dict[str, list[int]]:
        """What is remembered; raises Unavailable when it cannot be known."""

    def remember(self, ages: Mapping[str, list[int]]) -> None:
        """Remember these parts, each at least this new; raises Unavailable when they would be forgotten."""


class FileMemory:
    """A file of one verifier.

    Args:
        path: Need not exist yet.

    Raises:
        NotReady: It exists and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._newest = _read(path)

    def newest(self) -> dict[str, list[int]]:
        """What is remembered."""
        return dict(self._newest)

    def remember(self, ages: Mapping[str, list[int]]) -> None:
        """Remember these parts, each at least this new.

        Raises:
            Unavailable: They cannot be written.
        """
        newest = freshness.newest(self._newest, ages)
        if newest != self._newest:
            _write(self._path, newest)
            self._newest = newest


def _read(path: Path) -> dict[str, list[int]]:
    try:
        return {str(part): [int(number) for number in age] for part, age in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise NotReady(
            f"{path} cannot be read, so nothing says how new collateral must be; remove it to begin again",
            reason="collateral.memory_lost",
        ) from error


def _write(path: Path, newest: Mapping[str, list[int]]) -> None:
    staged = path.with_suffix(".new")
    try:
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump(newest, file)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except OSError as error:
        raise Unavailable("the verifier's state cannot be written", reason="state.unavailable") from error
