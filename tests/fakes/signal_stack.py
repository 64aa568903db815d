"""The alternate signal stack of the thread that runs tests.

OpenVINO sets one on the thread that compiles, and frees it when the last model goes, on whichever thread that is. A
signal that comes to the first thread after that ends the process. Workers compile on threads that get no signals; tests
compile where they run.
"""

from __future__ import annotations

import ctypes

_SS_DISABLE = 2


class _Stack(ctypes.Structure):
    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_libc = ctypes.CDLL(None)


def forget() -> None:
    """Have signals come on this thread's own stack from now on."""
    _libc.sigaltstack(ctypes.byref(_Stack(None, _SS_DISABLE, 0)), None)
