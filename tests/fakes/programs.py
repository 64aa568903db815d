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
    lines: list[str] = []
    tables: list[str] = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            tables += [f"[{field.name}]", *_lines(value)]
        elif value is not None:
            lines.append(_line(field.name, value))
    path = folder / "settings.toml"
    path.write_text("\n".join([*lines, *tables]) + "\n")
    return path


def _lines(table: Any) -> list[str]:
    given = ((part.name, getattr(table, part.name)) for part in fields(table))
    return [_line(name, value) for name, value in given if value is not None]


def _line(name: str, value: Any) -> str:
    return f"{name} = {json.dumps(str(value) if isinstance(value, Path) else value)}"
