"""docs/guides/manifest-rules.md against the rules of the linter."""

from __future__ import annotations

import re
from pathlib import Path

from cloister.enclave.lint import RULES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "manifest-rules.md"


def test_the_page_has_every_rule_in_its_words() -> None:
    rows = re.findall(r"^\| (M\d\d) \| (.*) \| (.*) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(rule.id, rule.title, rule.why, rule.mend) for rule in RULES]


def test_no_rule_breaks_the_table() -> None:
    assert not [rule.id for rule in RULES if "|" in rule.title + rule.why + rule.mend]
