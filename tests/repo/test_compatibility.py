"""What the last release promised holds (docs/guides/upgrading.md): the wire, settings, reasons of errors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from upgrade import promises
from upgrade.released import last

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
TOOLS = PROTOS / "buf"
GONE: dict[str, str] = {}
"""Settings (`gateway.listen`) and reasons that went on purpose, each with why; CHANGELOG.md has a line on each.

Empty yet."""

BREAKS = (
    ("jobs", "string key = 4;", "string key = 44;", "FIELD_NO_DELETE_UNLESS_NUMBER_RESERVED"),
    ("jobs", "  bool forget = 4;", "  reserved 4;", "FIELD_NO_DELETE_UNLESS_NAME_RESERVED"),
    ("jobs", "bool existed = 2;", "bytes existed = 2;", "FIELD_WIRE_JSON_COMPATIBLE_TYPE"),
    ("jobs", "  repeated Submitted jobs = 1;", "  Submitted jobs = 1;", "FIELD_WIRE_JSON_COMPATIBLE_CARDINALITY"),
    ("jobs", "uint32 wait_ms = 3;", "uint32 waits_ms = 3;", "FIELD_SAME_JSON_NAME"),
    ("jobs", "  JOB_STATE_CANCELLED = 5;\n", "", "ENUM_VALUE_NO_DELETE"),
    ("jobs", "  rpc Forget(ForgetRequest) returns (ForgetResponse);\n", "", "RPC_NO_DELETE"),
    ("jobs", "returns (stream WatchResponse)", "returns (WatchResponse)", "RPC_SAME_SERVER_STREAMING"),
    ("jobs", "rpc Cancel(CancelRequest)", "rpc Cancel(ForgetRequest)", "RPC_SAME_REQUEST_TYPE"),
    ("jobs", "message KeptSubmission", "message KeptJobs", "PACKAGE_MESSAGE_NO_DELETE"),
    ("worker", "service Worker {", "service Workers {", "PACKAGE_SERVICE_NO_DELETE"),
)
"""Of a .proto, what is put in the place of what, and the rule of buf's that must object."""


def buf(*words: str | Path, folder: Path = PROTOS) -> subprocess.CompletedProcess[str]:
    """Run it, or skip the test where it could not be installed."""
    program = TOOLS / "node_modules" / ".bin" / "buf"
    if not program.exists():
        pytest.skip("needs Node.js 20.19 or later and npm, and `sh deploy/node.sh protos/buf`, which `make test` runs")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, cwd=folder)


def test_the_protos_are_as_buf_would_have_them() -> None:
    done = buf("lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_who_speaks_the_last_release_is_understood() -> None:
    done = buf("breaking", "--against", last().wire)
    assert done.returncode == 0, done.stdout + done.stderr


def test_whatever_would_break_them_is_seen(tmp_path: Path) -> None:
    """All at once, in a copy: each rule has to be among those that object."""
    shutil.copytree(PROTOS, tmp_path / "protos", ignore=shutil.ignore_patterns("node_modules"))
    for name, before, after, _ in BREAKS:
        file = tmp_path / "protos" / "cloister" / "api" / "v1" / f"{name}.proto"
        text = file.read_text()
        assert text.count(before) == 1, before
        file.write_text(text.replace(before, after))
    done = buf("breaking", "--against", last().wire, "--error-format", "json", folder=tmp_path / "protos")
    seen = {json.loads(line)["type"] for line in done.stdout.splitlines()}
    assert {rule for *_, rule in BREAKS} - seen == set()


def test_settings_of_the_last_release_are_understood() -> None:
    now = promises.settings()
    for service, then in last().settings.items():
        kept = {name for name in then if f"{service}.{name}" not in GONE}
        assert kept <= now[service].keys(), f"of the {service}'s settings these are gone: {kept - now[service].keys()}"
        needed = {name for name, must in now[service].items() if must and not then.get(name)}
        assert not needed, f"the {service} would not start with a file of {last().name}: it lacks {needed}"


def test_reasons_of_the_last_release_are_given_still() -> None:
    then = last().reasons
    assert len(then) > 200
    assert then - promises.literals() - GONE.keys() == set()


def test_what_is_gone_was_there_and_is_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    then = last().reasons | {f"{service}.{name}" for service, names in last().settings.items() for name in names}
    assert GONE.keys() <= then
    assert [name for name in GONE if f"`{name}`" not in changelog] == []


def test_bufs_version_is_exact_and_its_lock_names_no_registry() -> None:
    package: dict[str, Any] = json.loads((TOOLS / "package.json").read_text())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["devDependencies"].values())
    lock = (TOOLS / "package-lock.json").read_text()
    assert "resolved" not in lock
    packages = json.loads(lock)["packages"]
    assert all(each["integrity"].startswith("sha512-") for name, each in packages.items() if name)
