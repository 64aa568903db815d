"""How a service is run as a process in a test."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

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
