"""What processes cost, from /proc: CPU time and memory of a process and all that it started."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeAlias

from cloister.kit.shared_port import VARIABLE

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
Looks: TypeAlias = dict[str, tuple[list[float], list[float]]]
"""By process: when it was looked at, and what it had resident then."""


def tree(pid: int) -> list[int]:
    """`pid`, its children, and theirs; empty once it has gone."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        try:
            threads = [path / "children" for path in Path(f"/proc/{each}/task").iterdir()]
            waiting += [int(child) for path in threads for child in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append(each)
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds so far, user and system, of the whole tree; what a child used that has ended is in its parent's."""
    return sum(parsed_cpu_s(_read(each, "stat"), children=True) for each in tree(pid))


def parsed_cpu_s(stat: str, *, children: bool) -> float:
    """From the text of /proc/PID/stat; 0 of none.

    Args:
        stat: The text.
        children: With what its ended and awaited children used.
    """
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    ticks = fields[11:15] if children else fields[11:13]
    return sum(int(field) for field in ticks) / TICKS_PER_S


def threads_cpu_s(pid: int) -> dict[str, float]:
    """CPU seconds so far by name of a thread of this one process; threads of one name together, the first apart."""
    found: dict[str, float] = {}
    for each in Path(f"/proc/{pid}/task").iterdir():
        name = "main" if each.name == str(pid) else _read(pid, f"task/{each.name}/comm").strip() or "ended"
        used_s = parsed_cpu_s(_read(pid, f"task/{each.name}/stat"), children=False)
        found[name] = found.get(name, 0.0) + used_s
    return found


def busy_s() -> float:
    """CPU seconds so far of everybody on the processors that this process may use, what a hypervisor took included."""
    return parsed_busy_s(Path("/proc/stat").read_text(), os.sched_getaffinity(0))


def parsed_busy_s(stat: str, processors: Collection[int]) -> float:
    """From the text of /proc/stat: user, nice, system, irq, softirq and steal, not idle and waiting for disks."""
    fields = (line.split() for line in stat.splitlines())
    wanted = {f"cpu{number}" for number in processors}
    return sum(sum(map(int, (*each[1:4], *each[6:9]))) for each in fields if each[0] in wanted) / TICKS_PER_S


def memory_bytes(pid: int) -> int:
    """Memory of the whole tree; what several processes share is divided among them (Pss)."""
    return sum(parsed_memory_bytes(_read(each, "smaps_rollup")) for each in tree(pid))


def parsed_memory_bytes(rollup: str) -> int:
    """From the text of /proc/PID/smaps_rollup; 0 of none."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def rss_bytes(pid: int) -> float:
    """Resident memory of one process, pages that it shares with others included; 0 of none."""
    fields = _read(pid, "statm").split()
    return float(fields[1]) * PAGE_BYTES if fields else 0.0


def look(services: Mapping[str, int], looks: Looks) -> None:
    """Note what every process has now, by service; those that a service starts are numbered."""
    for service, pid in services.items():
        for number, each in enumerate(tree(pid)):
            at_s, sizes = looks.setdefault(f"{service}.{number}" if number else service, ([], []))
            at_s.append(time.monotonic())
            sizes.append(rss_bytes(each))


def face(pid: int) -> str | None:
    """Which face a process of a gateway has, empty for the first; None of one that has no place, or is gone."""
    for variable in _read(pid, "environ").split("\0"):
        name, _, place = variable.partition("=")
        if name == VARIABLE:
            return (*place.split(":"), "")[2]
    return None


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
