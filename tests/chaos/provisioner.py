"""Prove that a provisioner that is killed loses nothing: `make crash-provisioner`.

    python -m chaos.provisioner --kills 300 --every 1 --seed 1

First a script of everything a provisioner does, from the take-over of an earlier version's files to the restoring of
all that it keeps by owners' shares, is killed before each SQL statement that it writes with (`--every 3`: before every
third). Then processes that do all of it at once are killed over and over, at random statements, in the middle of
writes, and at random moments, each where the one before was killed. After each kill the state is opened as at the next
start, and judged (`chaos/provisioner_verdict.py`). The processes are forks of this one; no part of the provisioner
knows of it. Ends with 1 when something did not hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Final

from chaos.provisioner_verdict import judge
from chaos.provisioner_work import Kind, Strike, noted, older_model, work
from fakes.earlier_state import write_earlier

FOLDER: Final = Path(".bench/chaos-provisioner")
KILLS_OF_A_SITE: Final = 20
LONGEST_S: Final = 5.0
_AT_MOST: Final = {Kind.STATEMENT: 400, Kind.BYTE: 80_000, Kind.MOMENT: 600}
_HOW: Final = {Kind.STATEMENT: "before a statement", Kind.BYTE: "in a write", Kind.MOMENT: "at a moment"}
_KILLED: Final = (signal.SIGKILL, signal.SIGXFSZ)


def main(words: Sequence[str]) -> int:
    """Do what the command line asks for."""
    asked = arguments(words)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text stream, which forks share
    shutil.rmtree(asked.folder, ignore_errors=True)
    began = time.monotonic()
    kills: Counter[str] = Counter()
    try:
        for name in chain(
            scripted(asked.folder, asked.every, asked.seed), drawn(asked.folder, asked.kills, asked.seed)
        ):
            kills[name] += 1
    except Exception as error:
        traceback.print_exc()
        print(f"failed after {sum(kills.values())} kills, seed {asked.seed}; see {asked.folder}: {error}")
        return 1
    print(f"{sum(kills.values())} kills in {time.monotonic() - began:.0f} s: {_told(kills)}")
    done = Counter(line["done"] for site in asked.folder.iterdir() for line in noted(site))
    print(f"nothing that was acknowledged is lost: {_told(done)}")
    return 0


def _told(counted: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counted.items()))


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """How much of what."""
    parser = argparse.ArgumentParser(prog="python -m chaos.provisioner", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=300, help="of processes that do everything at once")
    parser.add_argument("--every", type=int, default=1, help="before how many statements of the script; 0 for none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    return parser.parse_args(words)


def scripted(folder: Path, every: int, seed: int) -> Iterator[str]:
    """Kill the script before each statement; each time from the beginning, so that each is one of a first run."""
    if not every:
        return
    for statement in range(1 + seed % every, 100_000, every):
        site = new_site(folder / "script")
        died = ended(site, Strike(Kind.STATEMENT, statement), 0, script=True)
        judge(site)
        if not died:
            return
        yield "before a statement of the script"
    raise AssertionError("the script has no end")


def drawn(folder: Path, kills: int, seed: int) -> Iterator[str]:
    """Kill processes that do everything at once, at points that are drawn."""
    random = Random(seed)
    for number in range(kills):
        if number % KILLS_OF_A_SITE == 0:
            site = new_site(folder / f"site-{number // KILLS_OF_A_SITE}")
            lines = 0
        strike = draw(random)
        assert ended(site, strike, random.randrange(1 << 30), script=False), "a process that should not end has ended"
        found = judge(site)
        assert found >= lines, f"the log has {found} lines, and had {lines}"
        lines = found
        yield _HOW[strike.kind]


def draw(random: Random) -> Strike:
    """How the next one is killed."""
    kind = random.choice(list(Kind))
    return Strike(kind, random.randint(1, _AT_MOST[kind]))


def new_site(folder: Path) -> Path:
    """A folder with the state of an earlier version in it."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "state").mkdir(parents=True, mode=0o700)
    write_earlier(folder / "state", older_model())
    return folder


def ended(site: Path, strike: Strike, seed: int, *, script: bool) -> bool:
    """Have a process work at a site until it is killed; returns whether it was, or came to its end."""
    process = os.fork()
    if process == 0:
        _child(site, strike, seed, script=script)
    within_s = strike.at / 1000 if strike.kind is Kind.MOMENT else LONGEST_S
    if not script:
        _kill_after(process, within_s)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) in _KILLED, f"it died of signal {os.WTERMSIG(status)}"
        return True
    assert os.WEXITSTATUS(status) == 0, f"it failed by itself: see {site / 'failed'}"
    return False


def _child(site: Path, strike: Strike, seed: int, *, script: bool) -> None:
    try:
        work(site, strike, seed, script=script)
    except BaseException:
        (site / "failed").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def _kill_after(process: int, within_s: float) -> None:
    """Kill it then, unless it has died by itself."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
