"""Flink as the wheel brings it: programs, and what its classes need of Java."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.errors import NotReady

# Of the wheel's own config.yaml, where it stands below `env: java: opts:`.
_JAVA_OPTIONS: Final = re.compile(r"^ +all: (?P<options>--add-.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FlinkHome:
    """The folder of an installed Flink.

    Attributes:
        path: With bin/, lib/ and conf/.
    """

    path: Path

    def java_options(self) -> str:
        """The packages of Java that Flink's classes reach into.

        Raises:
            NotReady: They are not where Flink 2 has them (`flink.unknown`).
        """
        found = _JAVA_OPTIONS.search((self.path / "conf" / "config.yaml").read_text(encoding="utf-8"))
        if found is None:
            raise NotReady(f"{self.path}/conf/config.yaml names no Java options", reason="flink.unknown")
        return found["options"].strip()
