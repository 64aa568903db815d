"""`cloister model default`, `label` and `routing`: the file that gateways watch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.cli.mesh_folder import Mesh
from cloister.gateway.routing import ModelRouting, Routing
from fakes.founded import found

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    made = found(tmp_path / "mesh", monkeypatch)
    monkeypatch.setenv("CLOISTER_MESH", str(made.folder))
    return made


def test_defaults_and_labels_are_written_where_the_gateway_looks(own: Mesh, run: Run) -> None:
    path = own.folder / "gateway" / "routing.toml"
    assert "newest" in run("model", "routing")[1]
    assert run("model", "default", "iris", "2")[0] == 0
    assert run("model", "label", "iris", "stable=2", "canary=3")[0] == 0
    assert Routing.parse(path.read_bytes()).of("iris") == ModelRouting("2", {"stable": "2", "canary": "3"})
    assert "canary=3 stable=2" in run("model", "routing")[1]
    assert run("model", "label", "iris", "stable=3", "--drop", "canary")[0] == 0
    assert run("model", "default", "iris", "newest")[0] == 0
    told = json.loads(run("model", "routing", "--json")[1])
    assert told == {"iris": {"default": "", "labels": {"stable": "3"}}}
    assert not list(path.parent.glob(".routing*"))


@pytest.mark.parametrize(
    "words",
    [
        ("default", "iris", "two"),
        ("default", "iris", "0"),
        ("label", "iris"),
        ("label", "iris", "2=3"),
        ("label", "iris", "stable"),
        ("label", "iris", "stable=canary"),
        ("label", "iris", "--drop", "stable"),
        ("label", "iris", "stable=1", "stable=2"),
        ("label", "iris", "stable=1", "--drop", "stable"),
        ("default", "No Name", "1"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(own: Mesh, run: Run, words: tuple[str, ...]) -> None:
    path = own.folder / "gateway" / "routing.toml"
    before = path.read_bytes()
    code, _, said = run("model", *words)
    assert code in (1, 2)
    assert said
    assert path.read_bytes() == before


def test_a_gateway_that_has_no_routing_file_is_named(own: Mesh, run: Run) -> None:
    settings = own.settings("gateway")
    settings.write_text(settings.read_text().replace('routing = "routing.toml"\n', ""))
    code, _, said = run("model", "default", "iris", "1")
    assert (code, "names no routing file" in said) == (1, True)


def test_a_file_that_makes_no_sense_is_named_and_left(own: Mesh, run: Run) -> None:
    path = own.folder / "gateway" / "routing.toml"
    path.write_text("[models.iris")
    code, _, said = run("model", "default", "iris", "1")
    assert (code, f"{path} makes no sense" in " ".join(said.split())) == (1, True)
    assert path.read_text() == "[models.iris"
