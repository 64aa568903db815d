"""The names that go into sealed things, by strict pattern: what is bound must have one spelling."""

from __future__ import annotations

import re
from typing import Final

from cloister.errors import InvalidRequest

_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_INSTANCE: Final = re.compile(r"[0-9a-f]{32}")
_FILE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,7}")
_MAX_VERSION: Final = 1 << 63


def check_model(name: str, version: int) -> None:
    """Check a model's name and version.

    Raises:
        InvalidRequest: Not a name, or not a positive version.
    """
    if not isinstance(name, str) or not _MODEL.fullmatch(name) or ".." in name:
        raise InvalidRequest("a model name has 1 to 63 of a-z 0-9 . _ - and begins with a letter or digit")
    if type(version) is not int or not 0 < version < _MAX_VERSION:
        raise InvalidRequest("a model version is a positive number")


def check_instance(instance: str) -> None:
    """Check the name of a worker's run.

    Raises:
        InvalidRequest: Not 32 lower-case hex digits.
    """
    if not isinstance(instance, str) or not _INSTANCE.fullmatch(instance):
        raise InvalidRequest("an instance is 32 lower-case hex digits")


def check_file(name: str) -> None:
    """Check the name of a file inside a sealed model: a relative path that nothing can climb out of.

    Raises:
        InvalidRequest: Absolute, hidden, empty, too deep or with other characters.
    """
    if not isinstance(name, str) or not _FILE.fullmatch(name):
        raise InvalidRequest("a file in a model has a relative name of letters, digits and . _ - with / between")
