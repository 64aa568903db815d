"""What the provisioner's log is called, to all who keep, witness and audit it: `<cluster>/provisioner/<generation>`.

Generations count how often an operator went on after a loss (`cloister provisioner resume`). Each but the first begins
with a line `log.resumed`, which says how far the log had gone before; `Resumption` reads it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from cloister.errors import InvalidRequest
from cloister.rpc.spiffe import check_cluster

RESUMED: Final = "log.resumed"
_GENERATION: Final = re.compile(r"[1-9][0-9]{0,8}")
_ROOT: Final = re.compile(r"[0-9a-f]{64}")


class LogOrigin(NamedTuple):
    """The origin line of its checkpoints, taken apart."""

    cluster: str
    generation: int

    def __str__(self) -> str:
        return f"{self.cluster}/provisioner/{self.generation}"

    @classmethod
    def parse(cls, origin: str) -> LogOrigin:
        """Take an origin line apart; raises InvalidRequest (`origin.unknown`)."""
        parts = origin.split("/")
        if len(parts) != 3 or parts[1] != "provisioner" or not _GENERATION.fullmatch(parts[2]):
            raise InvalidRequest("the checkpoint is of no provisioner's log", reason="origin.unknown")
        try:
            check_cluster(parts[0])
        except (InvalidRequest, ValueError):
            raise InvalidRequest("the checkpoint is of no provisioner's log", reason="origin.unknown") from None
        return cls(parts[0], int(parts[2]))


@dataclass(frozen=True, slots=True)
class Resumption:
    """What the line that begins a generation says of the one before it.

    Attributes:
        old_origin: Of that one.
        should_size: How many lines it had, as its witnesses know.
        should_root: Over those, 32 bytes.
        have_size: How many of them the log still has, and goes on from.
    """

    old_origin: str
    should_size: int
    should_root: bytes
    have_size: int

    @classmethod
    def parse(cls, line: bytes) -> Resumption:
        """Read such a line; raises InvalidRequest (`resumption.malformed`) for any other."""
        try:
            return cls.of(json.loads(line))
        except (ValueError, RecursionError):
            raise _malformed() from None

    @classmethod
    def of(cls, said: Any) -> Resumption:
        """The same of a line that is JSON already."""
        try:
            if said["event"] != RESUMED or not _ROOT.fullmatch(said["should_root"]):
                raise _malformed()
            sizes = said["should_size"], said["have_size"]
            if any(type(size) is not int or size < 0 for size in sizes):
                raise _malformed()
            LogOrigin.parse(said["old_origin"])
            return cls(said["old_origin"], sizes[0], bytes.fromhex(said["should_root"]), sizes[1])
        except (TypeError, KeyError, AttributeError, InvalidRequest):
            raise _malformed() from None


def _malformed() -> InvalidRequest:
    return InvalidRequest("the line does not say what the log goes on from", reason="resumption.malformed")
