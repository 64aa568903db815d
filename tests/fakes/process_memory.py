"""What lies in the memory of another process, as its host can read it where no enclave forbids."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)")
_KERNELS = ("[vvar", "[vsyscall]")


def require_root() -> None:
    """Skip the test for who may not look into a service: they all close themselves to everybody else (attacks I05)."""
    if os.geteuid() != 0:
        pytest.skip("only root may look into a service; run this as root")


def found_in_memory(pid: int, needles: Mapping[str, bytes]) -> dict[str, int]:
    """How often each of these bytes is found, in all that the process can read."""
    found = dict.fromkeys(needles, 0)
    for content in _readable(Path("/proc") / str(pid)):
        for name, needle in needles.items():
            found[name] += content.count(needle)
    return found


def _readable(process: Path) -> Iterator[bytes]:
    with (process / "mem").open("rb", buffering=0) as memory:
        for line in (process / "maps").read_text().splitlines():
            mapping = _MAPPING.match(line)
            assert mapping is not None
            begin, end, rights, name = mapping.groups()
            if not rights.startswith("r") or name.startswith(_KERNELS):
                continue
            try:
                memory.seek(int(begin, 16))
                yield memory.read(int(end, 16) - int(begin, 16))
            except OSError:  # a device's, or gone meanwhile
                continue
