import os

from benchmarks import processes
from benchmarks.processes import TICKS_PER_S, parsed_busy_s, parsed_cpu_s, parsed_memory_bytes


def stat(name: str, *times: int) -> str:
    """The text of /proc/PID/stat: utime, stime, cutime and cstime are fields 14 to 17 (proc(5))."""
    return f"42 ({name}) S " + " ".join(["1"] * 10 + [str(ticks) for ticks in times] + ["1"] * 30)


def test_cpu_time_is_user_and_system_and_that_of_ended_children_if_wanted() -> None:
    text = stat("worker", 100, 20, 3, 4)
    assert parsed_cpu_s(text, children=False) == 120 / TICKS_PER_S
    assert parsed_cpu_s(text, children=True) == 127 / TICKS_PER_S


def test_a_name_with_blanks_and_brackets_misleads_nobody() -> None:
    assert parsed_cpu_s(stat("a) S 9 9 (b", 100, 20, 0, 0), children=False) == 120 / TICKS_PER_S


def test_busy_are_the_processors_that_are_ours_and_neither_idle_nor_waiting() -> None:
    lines = ["cpu 99 99 99 99", "cpu0 1 2 4 1000 1000 8 16 32 0 0", "cpu1 64 0 0 0 0 0 0 0 0 0", "intr 7 7"]
    text = "\n".join([*lines, "cpu10 500 0 0 0 0 0 0 0 0 0"])
    assert parsed_busy_s(text, {0}) == 63 / TICKS_PER_S
    assert parsed_busy_s(text, {0, 1}) == 127 / TICKS_PER_S


def test_memory_is_the_proportional_set() -> None:
    assert parsed_memory_bytes("Rss: 900 kB\nPss:      700 kB\nPss_Anon: 5 kB\n") == 700 << 10


def test_a_process_that_has_gone_costs_nothing() -> None:
    assert parsed_cpu_s("", children=True) == 0
    assert parsed_memory_bytes("") == 0


def test_this_process_is_found_and_has_used_time() -> None:
    me = os.getpid()
    assert me in processes.tree(me)
    assert processes.cpu_s(me) > 0
    assert processes.memory_bytes(me) > 1 << 20
    assert sum(processes.threads_cpu_s(me).values()) > 0
