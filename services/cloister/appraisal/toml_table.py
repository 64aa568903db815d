"""A TOML table of a policy whose keys are taken out one by one, so that what is left over is what nobody knows.

Every value is wanted in one form. What is missing, empty, of another type or mistyped is an error that names the key,
so that a mistyped restriction cannot silently be no restriction.
"""

from __future__ import annotations

import re
from datetime import date, datetime

from cloister.errors import InvalidRequest


def wrong(name: str, wanted: str) -> InvalidRequest:
    """Return the error for a key whose value is not what it must be; the caller raises it."""
    return InvalidRequest(f"appraisal policy: {name} is not {wanted}", reason="policy.malformed")


def octets(value: object, name: str, length: int) -> bytes:
    """Return the bytes that a hexadecimal string of exactly this length stands for.

    Raises:
        InvalidRequest: Reason `policy.malformed`; as all here.
    """
    if not isinstance(value, str) or not re.fullmatch(rf"[0-9A-Fa-f]{{{2 * length}}}", value):
        raise wrong(name, f"{2 * length} hexadecimal digits")
    return bytes.fromhex(value)


class Table:
    """One table; `path` is how messages call it, empty for the file itself."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict) or not value:
            raise wrong(path or "the policy", "a table with something in it")
        self._left: dict[str, object] = dict(value)
        self._path = path

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def left(self) -> list[str]:
        """Keys that nobody has taken out yet, sorted."""
        return sorted(self._left)

    def take(self, key: str) -> object:
        """Take a value out as it is; None where there is none."""
        return self._left.pop(key, None)

    def name(self, key: str) -> str:
        """How messages call a key."""
        return f"{self._path}.{key}" if self._path else key

    def integer(self, key: str, most: int, *, least: int = 0) -> int:
        """Take out an integer in this range."""
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise wrong(self.name(key), f"an integer from {least} to {most}")
        return value

    def boolean(self, key: str) -> bool:
        """Take out true or false."""
        value = self.take(key)
        if not isinstance(value, bool):
            raise wrong(self.name(key), "true or false")
        return value

    def day(self, key: str) -> date:
        """Take out a date without a time."""
        value = self.take(key)
        if not isinstance(value, date) or isinstance(value, datetime):
            raise wrong(self.name(key), "a date such as 2024-03-13, without quotes")
        return value

    def octets(self, key: str, length: int) -> bytes:
        """Take out bytes in hexadecimal digits."""
        return octets(self.take(key), self.name(key), length)

    def strings(self, key: str, *, least: int = 1) -> list[str]:
        """Take out a list of strings."""
        value = self.take(key)
        if not isinstance(value, list) or len(value) < least or not all(isinstance(item, str) for item in value):
            raise wrong(self.name(key), "a list of strings that is not empty")
        return value

    def tables(self, key: str) -> list[Table]:
        """Take out an array of tables."""
        rows = self.take(key)
        if not isinstance(rows, list) or not rows:
            raise wrong(self.name(key), "an array of tables that is not empty")
        return [Table(row, f"{self.name(key)}[{n}]") for n, row in enumerate(rows)]

    def finish(self) -> None:
        """Check that every key was known."""
        for key in self.left():
            raise wrong(self.name(key[:64]), "a key of an appraisal policy")
