"""The attack catalogue (docs/attacks.md) and the tests that play it. `make attacks` prints both side by side."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"\| ([A-J]\d{1,2}) \| (.+?) \|(.*)\|")


@cache
def catalogue() -> dict[str, tuple[str, str]]:
    """What each id is, and why no test plays it; the latter is empty where one does.

    Raises:
        ValueError: An id stands there twice.
    """
    found: dict[str, tuple[str, str]] = {}
    for line in (ROOT / "docs" / "attacks.md").read_text().splitlines():
        if row := _ROW.fullmatch(line):
            if row[1] in found:
                raise ValueError(f"{row[1]} stands in docs/attacks.md twice")
            found[row[1]] = (row[2].strip(), row[3].strip())
    return found


@cache
def played() -> dict[str, list[str]]:
    """The tests that are marked with each id, as pytest names them."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for identifier, test in _marks(ast.parse(path.read_text())):
            found.setdefault(identifier, []).append(f"{path.relative_to(ROOT)}::{test}")
    return found


def _marks(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for mark in node.decorator_list:
                match mark:
                    case ast.Call(func=ast.Attribute(attr="attack"), args=[ast.Constant(value=str(identifier))]):
                        yield identifier, node.name
                    case ast.Call(func=ast.Attribute(attr="attack")):
                        yield "not one literal id", node.name


def main() -> None:
    """Print every attack with its tests."""
    tests = played()
    for identifier, (attack, reason) in catalogue().items():
        print(f"{identifier}  {attack}")
        for test in tests.get(identifier, []):
            print(f"     {test}")
        if not tests.get(identifier):
            print(f"     no test: {reason or 'and no reason is given'}")


if __name__ == "__main__":
    main()
