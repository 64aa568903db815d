"""Hosts on a wire that the crash tests make: real frames, a cable that is pulled, and processes that are killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from chaos.lan import Lan, lan, missing
from chaos.wire import Weather

PORT = 4000
ECHO = f"""
import socket
with socket.create_server(("", {PORT})) as listening:
    print("listening", flush=True)
    while True:
        listening.accept()[0].close()
"""
CALL = """
import socket, sys, time
began = time.monotonic()
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.5).close()
except OSError as error:
    sys.exit(f"no way: {error}")
print(time.monotonic() - began)
"""


@pytest.fixture
def net() -> Iterator[Lan]:
    if why := missing():
        pytest.skip(why)
    with lan(("one", "other"), Weather(loss=0.0, delay_ms=2.0)) as made:
        yield made


def called(net: Lan, within: Sequence[str]) -> subprocess.CompletedProcess[str]:
    words = [*within, sys.executable, "-c", CALL, net.addresses["other"], str(PORT)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)


def test_hosts_reach_each_other_late_and_not_at_all_while_a_cable_is_out(net: Lan) -> None:
    words = [*net.within("other"), sys.executable, "-c", ECHO]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        assert listening.stdout.readline() == "listening\n"
        for within in (net.within("one"), []):  # from a host, and from beside all of them
            assert float(called(net, within).stdout) >= 0.003
        net.pull("other")
        assert "no way" in called(net, net.within("one")).stderr
        net.plug("other")
        assert called(net, net.within("one")).returncode == 0
        assert net.processes("other") == [listening.pid]
        assert net.processes("one") == []
        assert net.kill("other") == 1
        assert listening.wait(10) < 0
    assert "refused" in called(net, net.within("one")).stderr  # the host is still there, and says so


def test_what_the_wire_carried_is_told_and_nothing_is_left(net: Lan) -> None:
    with lan(("alone",), Weather()) as made:
        namespace = made.namespaces["alone"]
        assert namespace in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert {"carried", "lost", "swallowed", "delay_ms"} <= made.carried.keys()
    assert namespace not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert net.carried == {}
