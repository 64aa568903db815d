"""What `cloister.client` offers: each name where it is said to be, and as type checkers see it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from cloister import client

STUB = Path(str(client.__file__)).with_suffix(".pyi").read_text()


@pytest.mark.parametrize("name", client.__all__)
def test_a_name_is_found(name: str) -> None:
    assert getattr(client, name) is not None
    assert name in dir(client)


def test_type_checkers_see_the_same_names_in_the_same_places() -> None:
    seen = re.findall(r"^from (\S+) import (\w+) as \2$", STUB, re.MULTILINE)
    assert sorted(name for _, name in seen) == client.__all__
    assert len(seen) == len(STUB.splitlines())
    assert all(getattr(import_module(module), name) is getattr(client, name) for module, name in seen)


def test_no_name_is_also_a_module_which_would_stand_in_its_place_once_imported() -> None:
    assert not {module.name for module in iter_modules(client.__path__)} & set(client.__all__)


def test_what_is_not_offered_is_not_found() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = client.nothing  # type: ignore[attr-defined]  # on purpose
