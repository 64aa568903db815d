"""What a version of Cloister lets others rely on beside its wire: settings, and reasons of errors.

python promises.py          prints them as JSON, of whichever version's Python runs it
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType

import cloister

SERVICES = ("gateway", "provisioner", "verifier", "worker")
_REASON = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")


def settings() -> dict[str, dict[str, bool]]:
    """By service, each setting with dots, and whether it must be there."""
    found = {service: import_module(f"cloister.{service}.settings").Settings for service in SERVICES}
    return {service: dict(_settings(each)) for service, each in found.items()}


def reasons() -> set[str]:
    """Everything in the code that is given as a reason."""
    return set(_reasons([ast.parse(text) for text in _sources()]))


def literals() -> set[str]:
    """Every text in the code that could be a reason."""
    return {found for text in _sources() for found in re.findall(rf'"({_REASON.pattern})"', text)}


def _settings(settings_class: type, at: str = "") -> Iterator[tuple[str, bool]]:
    """A table that must be there makes what must be there in it so; of one that need not, nothing must."""
    hints = typing.get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        kinds = [kind for kind in typing.get_args(hints[field.name]) or (hints[field.name],) if kind is not NoneType]
        given = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if len(kinds) == 1 and dataclasses.is_dataclass(kinds[0]) and isinstance(kinds[0], type):
            for name, needed in _settings(kinds[0], f"{at}{field.name}."):
                yield name, needed and not given
        else:
            yield f"{at}{field.name}", not given


def _sources() -> Iterator[str]:
    for path in sorted(Path(cloister.__path__[0]).rglob("*.py")):
        yield path.read_text()


def _reasons(trees: list[ast.Module]) -> Iterator[str]:
    """What stands after `reason=` or as a class's own reason, by itself or by the name of a constant."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    named = {name: text for node in nodes for name, text in _constants(node)}
    for node in nodes:
        values = [word.value for word in node.keywords if word.arg == "reason"] if isinstance(node, ast.Call) else []
        values += [node.value] if isinstance(node, ast.AnnAssign | ast.Assign) and _is_default(node) else []  # type: ignore[list-item]
        for value in values:
            text = named.get(value.id, "") if isinstance(value, ast.Name) else _text(value)
            if text:
                yield text


def _constants(node: ast.AST) -> Iterator[tuple[str, str]]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    if targets and node.value is not None and (text := _text(node.value)):  # type: ignore[attr-defined]
        yield from ((target.id, text) for target in targets if isinstance(target, ast.Name))


def _is_default(node: ast.AnnAssign | ast.Assign) -> bool:
    return any(name == "default_reason" for name, _ in _constants(node))


def _text(node: ast.AST) -> str:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and _REASON.fullmatch(node.value)
    return node.value if is_text else ""  # type: ignore[attr-defined, no-any-return]


if __name__ == "__main__":
    print(json.dumps({"settings": settings(), "reasons": sorted(reasons())}, indent=1))
