"""What the guides name exists: files they link to, commands and options, and each guide has its place in the index."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cloister import errors
from cloister.cli.app import app

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
PAGES = sorted(GUIDES.glob("*.md"))
NAMES = [page.name for page in PAGES]


def typed(page: Path) -> list[str]:
    """Lines of a page that are commands of ours: in its blocks, whole; comments left out."""
    lines = [line.strip() for line in page.read_text().splitlines() if re.match(r"(?:    )?cloister ", line)]
    return [line.partition(" #")[0].strip() for line in lines]


def mentioned(page: Path) -> list[str]:
    """The same in running text, between backquotes, on one line or over its end."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return [" ".join(found.split()) for found in re.findall(r"`(cloister [^`]+)`", text)]


def command_of(line: str) -> tuple[Any, list[str]]:
    """The command that a line calls, and what it is called with."""
    command: Any = get_command(app)
    words = shlex.split(line)[1:]
    while words and words[0] in getattr(command, "commands", ()):
        command = command.commands[words.pop(0)]
    return command, words


def unknown(line: str) -> Iterator[str]:
    """Options of a line that its command does not have, or the command itself."""
    command, words = command_of(line)
    if hasattr(command, "commands") and words and not words[0].startswith("-"):
        yield words[0]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h"}
    yield from (word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_have_the_options_that_they_are_given(page: Path) -> None:
    assert {line: wrong for line in typed(page) + mentioned(page) if (wrong := list(unknown(line)))} == {}


def test_a_command_or_an_option_that_nobody_has_would_be_noticed() -> None:
    assert list(unknown("cloister trust pin a:1 --mrenclave x --owt y")) == ["--owt"]
    assert list(unknown("cloister trust pim a:1")) == ["pim"]
    assert sum(len(typed(page)) for page in PAGES) > 40


def test_the_index_names_every_guide() -> None:
    index = (GUIDES / "README.md").read_text()
    assert [name for name in NAMES if name != "README.md" and f"({name})" not in index] == []


def test_the_errors_of_the_python_client_are_those_there_are() -> None:
    """Its table names classes that the SDK has, and reasons that some code of ours gives."""
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", (GUIDES / "python-client.md").read_text(), re.MULTILINE)
    code = "".join(path.read_text() for path in (GUIDES.parents[1] / "services").rglob("*.py"))
    assert len(rows) > 10
    assert {name for name, _ in rows if not hasattr(errors, name)} == {"TimeoutError"}
    assert [
        reason for _, reasons in rows for reason in re.findall(r"`([^`]+)`", reasons) if f'"{reason}"' not in code
    ] == []


def test_the_tests_that_a_guide_names_are_there() -> None:
    """The list of what went wrong in Cluster Serving: a test that is renamed takes its row along."""
    tests = GUIDES.parents[1] / "tests"
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (GUIDES / "from-cluster-serving.md").read_text())
    assert len(named) > 25
    gone = [
        f"{file}::{name}"
        for file, name in named
        if not (tests / file).is_file() or not re.search(rf"def {name}\(", (tests / file).read_text())
    ]
    assert gone == []
