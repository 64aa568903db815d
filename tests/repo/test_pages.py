"""Lists that many hands add to, and merges double: the changelog, and the indexes of guides and decisions."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "docs" / "decisions"


def doubled(found: list[str]) -> list[str]:
    return [each for each, count in Counter(found).items() if count > 1]


def rows(index: Path) -> list[str]:
    """The first cell of each row of a page's table, below its head."""
    return re.findall(r"^\| ([^|]+) \|", index.read_text(), re.MULTILINE)[1:]


def test_the_changelog_says_each_thing_once_and_every_line_is_of_some_entry() -> None:
    _, *sections = re.split(r"^##+ .*\n", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    lines = [line for section in sections for line in section.splitlines() if line]
    assert [line for line in lines if not line.startswith(("- ", "  "))] == []
    entries = [entry for section in sections for entry in re.split(r"^- ", section, flags=re.MULTILINE)[1:]]
    assert len(entries) > 100
    assert doubled(entries) == []


def test_each_decision_has_one_row_in_the_order_of_their_numbers() -> None:
    pages = sorted(page.name for page in DECISIONS.glob("[0-9]*.md"))
    linked = [re.sub(r".*\((.+)\)", r"\1", row) for row in rows(DECISIONS / "README.md")]
    assert linked == pages


def test_no_reader_has_two_rows_in_the_index_of_guides() -> None:
    assert doubled(rows(ROOT / "docs" / "guides" / "README.md")) == []
