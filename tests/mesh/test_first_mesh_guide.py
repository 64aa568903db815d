"""The guide to a first mesh is walked as it is written: its commands, in its order, from an empty folder.

The README's example then runs there too, as a file, where `pip install cloister` has been and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.installed import installed
from fakes.running_mesh import BIN, until
from fakes.small_model import write_model

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "first-mesh.md").read_text()


def commands() -> list[str]:
    """Every line of the guide's blocks of commands."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    return [line for language, block in blocks if not language for line in block.splitlines()]


class Reader:
    """Somebody who types what the guide says, in a folder of their own, and fills in what it tells them to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def types(self, command: str) -> str:
        words = [self._filled(word) for word in shlex.split(command)]
        environment = {name: value for name, value in os.environ.items() if name != "CLOISTER_MESH"}
        program = [BIN / words[0], *words[1:]]
        done = subprocess.run(program, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _filled(self, word: str) -> str:
        meanings: dict[str, Callable[[], str]] = {
            "<worker>": lambda: self.measured("worker"),
            "<verifier>": lambda: self.measured("verifier"),
            "<address>": lambda: str(
                tomllib.loads((self.folder / "mesh" / "mesh.toml").read_text())["addresses"]["verifier_https"]
            ),
        }
        return meanings[word]() if word in meanings else word

    def measured(self, service: str) -> str:
        (command,) = re.findall(rf"`(cloister-simulator\s+measure\s+{service}[^`]*)`", GUIDE)
        return self.types(command).strip()

    def serves(self) -> bool:
        workers = json.loads(self.types("cloister status mesh --json"))["workers"]
        return len(workers) == 2 and all(worker["models"] for worker in workers)

    def has_its_files(self) -> None:
        """What the guide says one needs: a model, inputs, and its policy."""
        write_model(self.folder)
        (policy,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
        (self.folder / "policy.toml").write_text(policy.replace("<worker>", self.measured("worker")))


def ask_as_the_readme_does(folder: Path) -> str:
    """Its example, to the letter, by the identity and trust bundle that the guide's data owner has."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.strip().splitlines()) < 10
    (folder / "ask.py").write_text(example)
    (folder / ".cloister").symlink_to(folder / "ward-7")
    python = installed(folder / "installed")
    done = subprocess.run([python, "ask.py"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guide_works_as_it_is_written(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.has_its_files()
    port = 20_000 + 16 * secrets.randbelow(600)
    said: dict[str, str] = {}
    try:
        for command in commands():
            if command.startswith("cloister identity issue"):
                until(reader.serves, "the workers have the model's key")
            chosen = f" --port {port}" if command.startswith("cloister init") else ""
            if command.startswith("cloister down"):
                said["ask.py"] = ask_as_the_readme_does(tmp_path)
            said[command] = reader.types(command + chosen)
    finally:
        subprocess.run([BIN / "cloister", "down", "mesh"], cwd=tmp_path, capture_output=True, timeout=120)
    (asked,) = (out for command, out in said.items() if command.startswith("cloister infer"))
    assert "0.5" in asked
    (explained,) = (out for command, out in said.items() if command.startswith("cloister policy explain"))
    assert "2 judged: 2 would stay" in explained
    (shown,) = (out for command, out in said.items() if command.startswith("cloister trust show"))
    assert "by its evidence" in shown
    assert said["ask.py"].count(reader.measured("worker")) == 2
    assert "0.5" in said["ask.py"]


@pytest.mark.parametrize("code", range(5))
def test_the_guide_says_what_exit_codes_mean(code: int) -> None:
    assert len(re.findall(rf"^\| {code} \|", GUIDE, re.MULTILINE)) == 1
