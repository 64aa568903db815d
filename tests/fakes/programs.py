"""How a service is run as a process in a test."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloister_simulator import store


def program(service: str, settings: Path) -> list[str]:
    """The command of a service with this settings file.

    It is the service's own program; for a verifier under a simulated root, which that one refuses, the simulator's,
    with a platform beside the settings that its own evidence comes from.
    """
    command = [f"cloister.{service}"]
    if service == "verifier" and "anchor_root" in settings.read_text():
        platform = settings.parent / "platform"
        if not platform.exists():
            store.create(platform, datetime.now(UTC))
        command = ["cloister_simulator", "verifier", "--platform", str(platform)]
    return [sys.executable, "-m", *command, "--settings", str(settings)]


def written(folder: Path, settings: Any) -> Path:
    """The settings as the file that an operator would write, what is settings itself as a table."""
    path = folder / "settings.toml"
    path.write_text("\n".join(_lines(settings)) + "\n")
    return path


def _lines(table: Any, named: str = "") -> list[str]:
    """A table of settings, those within it after what is its own."""
    given = {part.name: getattr(table, part.name) for part in fields(table)}
    lines = [_line(name, value) for name, value in given.items() if value is not None and not is_dataclass(value)]
    for name, value in given.items():
        if is_dataclass(value):
            lines += [f"[{named}{name}]", *_lines(value, f"{named}{name}.")]
    return lines


def _line(name: str, value: Any) -> str:
    return f"{name} = {json.dumps(str(value) if isinstance(value, Path) else value)}"
