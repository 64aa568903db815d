"""`cloister up` under fire: `python -m chaos.supervised PLACES DIR OPTION...`.

The same command, but for two things. A program that is killed starts again after a second at most, however often that
was: the growing pauses are for programs that cannot live, and here none would live for long. And where PLACES names
them, programs run in network namespaces of their own (`namespaces`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloister.cli import keeper, programs
from cloister.cli.__main__ import main
from cloister.cli.programs import Program

PAUSE_S = 1.0
NOWHERE = Path("-")


def placed(program: Program, places: Mapping[str, Mapping[str, str]]) -> Program:
    """The program in its namespace, told the address that it has there."""
    place = places.get(program.name)
    if place is None:
        return program

    def there(text: str) -> str:
        return text.replace("127.0.0.1", place["address"])

    return replace(
        program,
        command=("ip", "netns", "exec", place["namespace"], *program.command),
        address=there(program.address),
        environment={name: there(value) for name, value in program.environment.items()},
    )


def under_fire(places: Mapping[str, Mapping[str, str]]) -> None:
    """Change what `cloister up` starts, in this process."""
    keeper.FIRST_PAUSE_S = keeper.LONGEST_PAUSE_S = PAUSE_S  # type: ignore[misc]
    planned = programs.stages

    def stages(*args: Any, **options: Any) -> list[list[Program]]:
        return [[placed(program, places) for program in stage] for stage in planned(*args, **options)]

    programs.stages = stages


if __name__ == "__main__":
    chosen = Path(sys.argv[1])
    under_fire({} if chosen == NOWHERE else json.loads(chosen.read_text()))
    sys.argv = ["cloister", "up", *sys.argv[2:]]
    main()
