"""The reference of the SDK says what the docstrings say, of everything that is public."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from cloister import client

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    return runpy.run_path(str(REFERENCE / "build.py"))


def test_the_pages_are_those_that_make_docs_writes(built: dict[str, Any]) -> None:
    pages: dict[str, str] = built["pages"]()
    written = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    assert sorted(written) == sorted(pages)
    assert [name for name in pages if pages[name] != written[name]] == [], "run 'make docs'"


def test_every_public_name_is_on_one_page(built: dict[str, Any]) -> None:
    named = [name for _, _, names in built["PAGES"].values() for name in names.split()]
    assert sorted(named) == client.__all__
