"""The folder that a service keeps its state in, which is nobody else's."""

from __future__ import annotations

from pathlib import Path

from cloister.errors import NotReady


def private_folder(folder: Path) -> Path:
    """A folder that is this user's alone: made so, or found so.

    Raises:
        NotReady: It cannot be made, or others can look into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise NotReady(f"state_dir {folder} cannot be used: {error.strerror}", reason="state_dir.unusable") from error
    if mode & 0o077:
        raise NotReady(f"state_dir {folder} is open to other users: chmod 700", reason="state_dir.unusable")
    return folder
