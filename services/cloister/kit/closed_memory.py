"""A process's memory stays its own: no core file, no look by a debugger (attack I05).

An enclave's memory is closed by the CPU, and Gramine makes no core files. Outside of one, in a trust domain too, Linux
would write all memory into a core file, and let every process of the same user read it; both end here. Swap does not:
where there is no enclave, the machine has none, or an encrypted one.
"""

from __future__ import annotations

import faulthandler
import resource
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
_CORE_FILTER: Final = Path("/proc/self/coredump_filter")


def close_memory() -> None:
    """Have no core file written, and nobody but root attach to this process or read its memory in /proc."""
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The limit does not hold where the kernel pipes core files to a program; what they are made of does (core(5)).
    if _CORE_FILTER.exists():  # Gramine makes no core files, and has none
        _CORE_FILTER.write_text("0")
    _forbid_attaching()


def _forbid_attaching() -> None:
    try:
        import ctypes
    except ImportError:  # tcb.lock keeps it out of enclaves, whose memory the CPU closes
        return
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # Python has none of its own, and other systems than Linux have none
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
