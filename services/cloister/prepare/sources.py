"""The owner's own code: a module or a Python file, and in it what makes a model. It is run, as any Python is."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from cloister.errors import InvalidRequest


def is_factory(source: str) -> bool:
    """Whether this names a callable, `MODULE:NAME` or `FILE.py:NAME`, and no file."""
    place, colon, name = source.rpartition(":")
    return bool(colon and place and name.isidentifier()) and not Path(source).exists()


def factory(source: str) -> Callable[[], Any]:
    """Import what `is_factory` recognises.

    Raises:
        InvalidRequest: There is no such module or file, it cannot be imported, or has no such callable
            (`source.unusable`).
    """
    place, _, name = source.rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    except Exception as error:  # whatever the owner's code raises is for its owner to read
        raise _unusable(f"'{place}' cannot be imported: {type(error).__name__}: {error}") from error
    make: Callable[[], Any] | None = getattr(module, name, None)
    if not callable(make):
        raise _unusable(f"'{place}' has no callable '{name}'")
    return make


def made(source: str) -> Any:
    """What the factory makes.

    Raises:
        InvalidRequest: As `factory`; or the call itself fails.
    """
    make = factory(source)
    try:
        return make()
    except Exception as error:  # as above
        raise _unusable(f"calling '{source}' failed: {type(error).__name__}: {error}") from error


def _from_path(name: str) -> ModuleType:
    """Import a module, from the folder that the command is run in too."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # as an import does: what it defines can be looked up again
    spec.loader.exec_module(module)
    return module


def _unusable(why: str) -> InvalidRequest:
    return InvalidRequest(why, reason="source.unusable")
