"""The README's example is run as it stands, on this mesh and with this model in the place of the demo's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fakes.running_mesh import MODEL, RunningMesh

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_shortest_example_answers(mesh: RunningMesh, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(example.strip().splitlines()) < 10
    ours = {
        '".cloister"': repr(str(mesh.folder)),
        "127.0.0.1:8440": mesh.gateway,
        "breast-cancer": MODEL,
        "measurements": "x",
        "(1, 30)": "(1, 8)",
    }
    for theirs, mine in ours.items():
        assert theirs in example, theirs
        example = example.replace(theirs, mine)
    exec(compile(example, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert mesh.mrenclave in said
    assert "array" in said
