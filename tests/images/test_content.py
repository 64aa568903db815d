"""What is in the images, and what is not (attacks J11)."""

from __future__ import annotations

import json
import re

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from fakes.containers import KINDS, REPOSITORY, SERVICES, config, image, mounted, run

UNWANTED = ("pip", "apt", "apt-get", "gcc", "cc", "make", "curl", "wget", "git", "gdb", "strace")


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
def test_nothing_in_it_belongs_to_who_runs_it_but_empty_places_for_volumes(kind: str) -> None:
    owned = run("find", mounted(kind), "-xdev", "-user", "10001", "!", "(", "-type", "d", "-empty", ")").splitlines()
    assert owned == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_no_private_key(kind: str) -> None:
    assert run("find", mounted(kind), "-xdev", "-name", "*.key", "-o", "-name", "*_key.pem").splitlines() == []


@pytest.mark.parametrize("kind", SERVICES)
def test_it_has_one_program_of_ours(kind: str) -> None:
    program = {"console": "cloister"}.get(kind, f"cloister-{kind}")
    assert [path.name for path in (mounted(kind) / "opt/cloister/bin").glob("cloister*")] == [program]


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_gains_rights_by_it(kind: str) -> None:
    """No program with the rights of another user, and nothing that anybody may write but folders for that."""
    privileged = run("find", mounted(kind), "-xdev", "-type", "f", "-perm", "/6000").splitlines()
    open_to_all = ("-perm", "-0002", "!", "-perm", "-1000")
    writable = run(
        "find", mounted(kind), "-xdev", "(", "-type", "f", "-o", "-type", "d", ")", *open_to_all
    ).splitlines()
    assert (privileged, writable) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_its_bill_of_materials_names_what_is_in_it(kind: str) -> None:
    text = (REPOSITORY / f"build/images/{kind}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    named = {(each["name"], each["version"]) for each in bill["components"] if each["purl"].startswith("pkg:pypi/")}
    there = {
        tuple(path.name.removesuffix(".dist-info").rsplit("-", 1))
        for path in mounted(kind).glob("opt/cloister/lib/python3*/site-packages/*.dist-info")
    }
    assert {(normal(name), version) for name, version in named} == {(normal(name), version) for name, version in there}
    packages = {each["name"] for each in bill["components"] if each["purl"].startswith("pkg:deb/")}
    assert {"libc6", "libssl3", "python3.11-minimal"} <= packages
    assert bill["metadata"]["component"]["purl"].endswith(digest(kind))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def digest(kind: str) -> str:
    return run("podman", "image", "inspect", "--format", "{{.Digest}}", image(kind)).strip()


def test_a_second_build_of_all_is_the_same() -> None:
    before = {kind: digest(kind) for kind in KINDS}
    bills = {kind: (REPOSITORY / f"build/images/{kind}.cdx.json").read_text() for kind in KINDS}
    run("sh", "deploy/images/build.sh", *KINDS, FRESH="1")
    assert {kind: digest(kind) for kind in KINDS} == before
    assert {kind: (REPOSITORY / f"build/images/{kind}.cdx.json").read_text() for kind in KINDS} == bills
