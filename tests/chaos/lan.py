"""Hosts on one wire: each a network namespace with an address of its own, whose cable can be pulled and put back.

Nothing of this machine's own network is touched. Needs root, iproute2 and /dev/net/tun.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from chaos import namespaces
from chaos.namespaces import Network, ip
from chaos.wire import TUN, Weather, tap

WORDS_S = 30.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Lan(Network):
    """Hosts by name.

    Attributes:
        carried: What the wire says of all frames; there once the network is gone.
    """

    carried: dict[str, Any] = field(default_factory=dict)
    _wire: subprocess.Popen[str] | None = None
    _dark: set[str] = field(default_factory=set)

    def pull(self, host: str) -> None:
        """From now on nothing comes from this host, and nothing to it, and nobody is told."""
        self._dark.add(host)
        self._order()

    def plug(self, host: str) -> None:
        """Its cable is in again."""
        self._dark.discard(host)
        self._order()

    def processes(self, host: str) -> list[int]:
        """All that run there."""
        return [int(pid) for pid in ip("netns", "pids", self.namespaces[host]).stdout.split()]

    def kill(self, host: str) -> int:
        """SIGKILL all that run there; returns how many they were."""
        pids = self.processes(host)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def _order(self) -> None:
        places = list(self.namespaces)
        wire = self._wire
        assert wire is not None
        assert wire.stdin is not None
        assert wire.stdout is not None
        wire.stdin.write(json.dumps({"dark": [places.index(host) for host in self._dark]}) + "\n")
        wire.stdin.flush()
        assert wire.stdout.readline() == "done\n", "the wire has ended"


@contextmanager
def lan(hosts: Sequence[str], weather: Weather) -> Iterator[Lan]:
    """A network of these hosts, and of this process, whose address is `here`; gone with the block."""
    tag, net = namespaces.tag(), namespaces.net()
    made = Lan(tag, here=f"{net}.254")
    taps = [f"cl{tag}{at}" for at in range(len(hosts) + 1)]
    command = [sys.executable, "-m", "chaos.wire", json.dumps(asdict(weather)), *taps]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as made._wire:
        words = made._wire.stdout
        assert words is not None
        try:
            assert words.readline() == "ready\n", "the wire did not start"
            for at, host in enumerate(hosts):
                _put(made, host, f"{net}.{at + 2}", taps[at], at)
            _set_up((), taps[-1], made.here, len(hosts))
            yield made
        finally:
            made.carried = _ended(made._wire, words)
            for namespace in made.namespaces.values():
                ip("netns", "del", namespace, check=False)


def missing() -> str:
    """Why there can be no such network here; empty if there can."""
    if not Path(TUN).exists():
        return f"there is no {TUN}: this kernel has no tap devices, or this container may not see them"
    if why := namespaces.missing():
        return why
    try:
        os.close(tap(f"cl{namespaces.tag()}"))
    except OSError as error:
        return f"no tap device can be made here: {error.strerror}"
    return ""


def _put(made: Lan, host: str, address: str, end: str, at: int) -> None:
    namespace = f"cl{made.tag}-{host}"
    ip("netns", "add", namespace)
    made.namespaces[host], made.addresses[host] = namespace, address
    ip("link", "set", end, "netns", namespace, "name", "eth0")
    _set_up(("-n", namespace), "eth0", address, at)
    ip("-n", namespace, "link", "set", "lo", "up")


def _set_up(where: Sequence[str], device: str, address: str, at: int) -> None:
    ip(*where, "link", "set", device, "address", f"02:00:00:00:00:{at:02x}")
    ip(*where, "addr", "add", f"{address}/24", "dev", device)
    ip(*where, "link", "set", device, "up")


def _ended(wire: subprocess.Popen[str], words: IO[str]) -> dict[str, Any]:
    """Have it end, which it does with its input; what it said last."""
    assert wire.stdin is not None
    with suppress(OSError):
        wire.stdin.close()
    try:
        said = words.read().strip()
        wire.wait(WORDS_S)
    finally:
        wire.kill()
    return dict(json.loads(said)) if said else {}
