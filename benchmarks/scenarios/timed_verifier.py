"""A program with every step of its event loop timed, for `renewals.py --time-steps`: `timed_verifier.py MODULE …`.

Runs on asyncio's own loop, because uvloop's steps cannot be timed from outside. A step is timed in CPU of the loop's
thread, which is how long it holds the loop up on a machine that has a processor for it. SIGUSR1 begins to count;
when the program ends, what was found goes as JSON to the file in `TIMED_STEPS`.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cloister.kit.lifecycle import require_tls13

steps_s: list[float] = []
_run: Any = asyncio.Handle._run


def _timed(handle: asyncio.Handle) -> None:
    began = time.thread_time()
    _run(handle)
    steps_s.append(time.thread_time() - began)


def main() -> int:
    """Be the program, then tell."""
    require_tls13()
    sys.modules["uvloop"] = None  # type: ignore[assignment]  # as if it were not installed
    asyncio.Handle._run = _timed  # type: ignore[attr-defined]  # private, and what all steps go through
    signal.signal(signal.SIGUSR1, lambda *_: steps_s.clear())
    del sys.argv[0]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        found = {
            "steps": len(steps_s),
            "over_1_ms": sum(step > 0.001 for step in steps_s),
            "over_5_ms": sum(step > 0.005 for step in steps_s),
            "longest_ms": round(max(steps_s, default=0.0) * 1e3, 2),
        }
        Path(os.environ["TIMED_STEPS"]).write_text(json.dumps(found))
        return int(ended.code or 0)
    return 1


if __name__ == "__main__":
    sys.exit(main())
