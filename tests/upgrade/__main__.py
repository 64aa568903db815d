"""Prove that a mesh is upgraded under load, and goes back: `make upgrade-mesh`.

    python -m upgrade --from REF        the older version; the last release where none is named

A mesh of the older version is founded, with two of each service that may be two, and asked without cease by clients of
both versions. Each program is replaced by this folder's, one after the other; the workers' new measurement is let in
before, by the people who decide about it, and the old one withdrawn afterwards. Then all of it back again. Ends with 1
when a request failed, a job was lost, or somebody got no answers. What was kept stays in the folder.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from upgrade.released import last
from upgrade.rolling import rolled
from upgrade.verdict import complaints, steps_table, totals
from upgrade.versions import here, installed

FOLDER = Path(".bench/upgrade")
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main(words: Sequence[str]) -> int:
    """Do what the command line asks for."""
    asked = _arguments(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    folder = asked.folder.absolute()
    began_s = time.monotonic()
    old, new = installed(asked.ref), here()
    console.print(f"{old.name}: workers measure {old.mrenclave}", f"{new.name}: {new.mrenclave}", sep="\n")
    shutil.rmtree(folder / "mesh", ignore_errors=True)
    shutil.rmtree(folder / "mesh-owner", ignore_errors=True)
    try:
        found = rolled(folder / "mesh", old, new, console.print)
    except AssertionError as error:
        console.print(f"[bold red]failed:[/] {error}", markup=True)
        return 1
    console.print(steps_table(found), totals(found))
    broken = list(complaints(found, (old.mrenclave, new.mrenclave)))
    for each in broken:
        console.print("[bold red]broken:[/]", each)
    if found.same_code:
        console.print("[bold yellow]note:[/] both versions' workers are the same code, so no policy had to choose")
    if not broken:
        console.print("[bold green]held[/]: every request was answered, and every job ended, on the way and back")
    console.print(f"{time.monotonic() - began_s:.0f} s")
    return 1 if broken else 0


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m upgrade", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--from", dest="ref", default=last().commit, help="commit, tag or branch of the older version")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
