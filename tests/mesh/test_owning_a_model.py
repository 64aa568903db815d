"""The model owner's guide is walked as it is written: its commands, in its order, and what it shows is what is said."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from pathlib import Path

import pytest

from fakes.guide import Reader, steps
from fakes.small_model import write_model

PAGE = "owning-a-model.md"


@pytest.mark.attack("J14")
def test_the_owners_guide_works_as_it_is_written(tmp_path: Path) -> None:
    write_model(tmp_path)
    walk = steps(PAGE)
    assert len(walk) > 40
    reader = Reader(tmp_path, more={"cloister init": f"--port {20_000 + 16 * secrets.randbelow(600)}"})
    with ExitStack() as beside:
        beside.callback(reader.ends)
        following = beside.enter_context(ExitStack())
        for step in walk:
            if step.command == "cloister audit follow":
                following.enter_context(reader.follows(step))
                continue
            if step.command.startswith("cloister down"):
                following.close()
            reader.does(step)
