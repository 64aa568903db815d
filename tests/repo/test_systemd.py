"""Units for one host: systemd reads them, and finds little that a broken service could do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
MOST_EXPOSED = 2.0
"""Of ten, as `systemd-analyze security` counts; 0 to 2 is what it calls OK."""

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*words: str) -> str:
    """What systemd-analyze says, on either stream."""
    done = subprocess.run(["systemd-analyze", *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_there_is_a_unit_for_each_service() -> None:
    services = ("gateway", "provisioner", "redis", "verifier", "worker@")
    assert [f"cloister-{name}.service" for name in services] == UNITS


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_has_nothing_to_object_to_but_that_it_is_not_installed_here(unit: str) -> None:
    said = [line for line in analyze("verify", f"./{unit}").splitlines() if "cloister" in line]
    assert [line for line in said if "is not executable" not in line] == []


@pytest.mark.parametrize("unit", UNITS)
def test_a_broken_service_could_do_little(unit: str) -> None:
    found = re.search(r"exposure level for .*: ([0-9.]+)", analyze("security", "--offline=true", f"./{unit}"))
    assert found is not None
    assert float(found[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("unit", UNITS)
def test_every_service_has_a_user_of_its_own(unit: str) -> None:
    text = (FOLDER / unit).read_text()
    (user,) = re.findall(r"^User=(.+)$", text, re.M)
    assert user == unit.removesuffix(".service").removesuffix("@")
    assert f"u {user} " in (FOLDER / "cloister.sysusers").read_text()
