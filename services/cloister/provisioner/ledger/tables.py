"""The tables whose rows the log vouches for, and what a row's hash covers.

A row's key is a name and, where there are several of a name, a positive number. Its hash covers key and columns. The
columns of a wrapped secret are left out: the wrap itself binds the secret to the rest of the row, so one that was
swapped or edited does not unwrap, and one that was wrapped anew under another root key is vouched for by the same line.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from cloister.seal.hpke import context

Value = str | int | bytes
WRAP: Final = ("wrapped_key", "root_key_id")
COPY: Final = "recovery_copy"
"""A secret once more, sealed to the recovery key; empty while none was dealt. The hash covers it: it binds nobody."""


class Key(NamedTuple):
    """Which row of a table: `number` is 0 where there is one for each name."""

    name: str
    number: int = 0


@dataclass(frozen=True)
class Table:
    """One table of the file.

    Attributes:
        name: In SQL, and in lines of the log.
        key: One or two columns: a text, and a positive integer.
        columns: What else the hash covers.
        wrapped: What it does not; the wrap binds it to the rest.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    wrapped: tuple[str, ...] = ()

    @cached_property
    def selected(self) -> str:
        """`SELECT` of whole rows, key first; wants its WHERE."""
        return f"SELECT {', '.join((*self.key, *self.columns, *self.wrapped))} FROM {self.name}"  # noqa: S608

    @cached_property
    def inserted(self) -> str:
        """A statement that puts a whole row, in the place of one with the same key."""
        width = len(self.key) + len(self.columns) + len(self.wrapped)
        return f"INSERT OR REPLACE INTO {self.name} VALUES ({', '.join('?' * width)})"  # noqa: S608  # constants

    @cached_property
    def found(self) -> str:
        """The condition that finds a row by its key."""
        return " AND ".join(f"{column} = ?" for column in self.key)

    def key_values(self, key: Key) -> tuple[Value, ...]:
        """What stands in the columns of a key."""
        values: tuple[Value, ...] = key
        return values[: len(self.key)]

    def key_of(self, row: tuple[Value, ...]) -> Key:
        """The key of a whole row."""
        return Key(*row[: len(self.key)])  # type: ignore[arg-type]  # the columns are strict

    def digest(self, row: tuple[Value, ...]) -> bytes:
        """SHA-256 of what the log vouches for of a whole row."""
        covered = row[: len(self.key) + len(self.columns)]
        return hashlib.sha256(context("cloister ledger row v1", self.name, *covered)).digest()

    def called(self, key: Key) -> str:
        """A row as lines of the log name it: `policy/iris/3`."""
        return "/".join(map(str, (self.name, *self.key_values(key))))


LOG_KEY: Final = Table("log_key", ("name",), ("public", COPY), WRAP)
MODEL: Final = Table("model", ("name",), ("owner", "owner_key"))
MODEL_VERSION: Final = Table("model_version", ("name", "version"), ("manifest", "signature", COPY), WRAP)
POLICY: Final = Table("policy", ("name", "version"), ("policy", "signature"))
SIGNER_SET: Final = Table("signer_set", ("name", "version"), ("envelope",))
EPOCH_COUNT: Final = Table("epoch_count", ("name",), ("begun",))
EPOCH: Final = Table(
    "epoch",
    ("name", "number"),
    ("suite", "began_ms", "seal_until_ms", "open_until_ms", "policy", "signature", COPY),
    ("wrapped_seed", "root_key_id"),
)
RECOVERY_KEY: Final = Table("recovery_key", ("name", "number"), ("deal",))
WITHDRAWAL: Final = Table("withdrawal", ("name", "version"), ("withdrawn_at_ms", "by_whom", "reason", "lifted"))
HELD: Final = Table("held", ("name",), ("generation",))
"""Models that are held: released to nobody until their owner signs for this generation of the log, as ever after."""
TABLES: Final = (LOG_KEY, MODEL, MODEL_VERSION, POLICY, SIGNER_SET, EPOCH_COUNT, EPOCH, HELD, WITHDRAWAL, RECOVERY_KEY)
