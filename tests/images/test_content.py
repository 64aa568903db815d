"""What is in the images, and what is not (attacks J11)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from fakes.containers import KINDS, SERVICES, image, run

UNWANTED = ("pip", "gcc", "cc", "make", "curl", "wget", "git", "gdb", "strace")


@cache
def mounted(kind: str) -> Path:
    """The image's files, as a folder to look at."""
    return Path(run("podman", "image", "mount", image(kind)).strip())


@cache
def config(kind: str) -> dict[str, object]:
    """What the image says of itself."""
    found: list[dict[str, dict[str, object]]] = json.loads(run("podman", "image", "inspect", image(kind)))
    return found[0]["Config"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_as_nobody(kind: str) -> None:
    assert config(kind)["User"] == "10001:10001"


@pytest.mark.attack("J11")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "simulator"])
def test_no_production_image_has_the_simulator(kind: str) -> None:
    assert not list(mounted(kind).glob("opt/cloister/**/cloister_simulator*"))
    assert not list(mounted(kind).glob("opt/cloister/bin/cloister-simulator"))
    assert "cloister.simulated" not in dict(config(kind).get("Labels") or {})  # type: ignore[call-overload]


def test_the_simulator_says_what_it_is() -> None:
    assert list(mounted("simulator").glob("opt/cloister/lib/python3*/site-packages/cloister_simulator/__init__.py"))
    assert dict(config("simulator")["Labels"])["cloister.simulated"] == "true"  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_builds_or_debugs_is_left(kind: str) -> None:
    folders = ("usr/bin", "usr/local/bin", "opt/cloister/bin", "usr/sbin")
    found = [name for name in UNWANTED for folder in folders if (mounted(kind) / folder / name).exists()]
    assert found == []
    assert not list(mounted(kind).glob("opt/cloister/lib/python3*/site-packages/pip"))
    assert not (mounted(kind) / "wheels").exists()
    assert not (mounted(kind) / "build/install.sh").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_it_belongs_to_who_runs_it(kind: str) -> None:
    owned = run("find", mounted(kind), "-xdev", "-user", "10001").splitlines()
    assert owned == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_no_private_key(kind: str) -> None:
    assert run("find", mounted(kind), "-xdev", "-name", "*.key", "-o", "-name", "*_key.pem").splitlines() == []


@pytest.mark.parametrize("kind", SERVICES)
def test_it_has_one_program_of_ours(kind: str) -> None:
    program = {"console": "cloister"}.get(kind, f"cloister-{kind}")
    assert [path.name for path in (mounted(kind) / "opt/cloister/bin").glob("cloister*")] == [program]


def test_a_second_build_is_the_same() -> None:
    before = run("podman", "image", "inspect", "--format", "{{.Digest}}", image("gateway"))
    run("sh", "deploy/images/build.sh", "gateway")
    assert run("podman", "image", "inspect", "--format", "{{.Digest}}", image("gateway")) == before
