"""Which modules a module's source imports, wherever in it: at its head, in a function, or only if they are there."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

_NEVER_RUN: Final = ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imported(source: str, module: str, *, package: bool) -> Iterator[str]:
    """Every module, or attribute of one, that an import statement in `source` names, as dotted names.

    What is only imported for type checkers is left out. `from a import b` gives `a` and `a.b`: which of them is a
    module, only who looks for it can tell.

    Args:
        source: Python.
        module: Whose source it is, for relative imports.
        package: It is a package's `__init__`.
    """
    for node in _statements([ast.parse(source)]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            base = _base(node, module, package=package)
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def reached(roots: Iterable[str], sources: Mapping[str, Path], *, stop: Collection[str] = ()) -> set[str]:
    """The modules among `sources` that `roots` can import, however late, with the packages they are in.

    Args:
        roots: Names of modules.
        sources: The file of each module that there is.
        stop: Modules that are not followed.
    """
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found or is_within(name, stop) or name not in sources:
            continue
        found.add(name)
        waiting += _parents(name)
        waiting += imported_by(name, sources[name])
    return found


@cache
def imported_by(module: str, source: Path) -> frozenset[str]:
    """What `imported` finds in a module's file."""
    return frozenset(imported(source.read_text(), module, package=source.name == "__init__.py"))


def modules_below(folder: Path) -> dict[str, Path]:
    """The source files of a package, by the names of their modules."""
    named: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.py")):
        parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def resolves(name: str, known: Callable[[str], bool]) -> bool:
    """Whether a name from an import statement is a known module, or an attribute of one."""
    return known(name) or known(name.rpartition(".")[0])


def is_within(name: str, modules: Iterable[str]) -> bool:
    """Whether a name is one of these modules, or in one of them."""
    return any(name == each or name.startswith(f"{each}.") for each in modules)


def _statements(nodes: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) in _NEVER_RUN:
            yield from _statements(node.orelse)
        else:
            yield from _statements(ast.iter_child_nodes(node))


def _base(node: ast.ImportFrom, module: str, *, package: bool) -> str:
    if not node.level:
        return node.module or ""
    up = node.level - 1 if package else node.level
    parts = module.split(".")
    return ".".join([*parts[: len(parts) - up], *([node.module] if node.module else [])])


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name
