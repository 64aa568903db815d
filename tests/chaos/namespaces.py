"""A network of its own for each part of a mesh, all on one bridge, where any two can be cut from each other.

A cut is silent, as a broken cable is: what one sends to the other goes to a hardware address that nobody has, and is
lost without a word to either. Nothing of the host's own network is touched. Needs root and iproute2.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

NOBODY = "02:00:00:00:de:ad"


@dataclass(slots=True)
class Network:
    """Parts by name.

    Attributes:
        addresses: Of each part.
        namespaces: Likewise.
        here: Our own address on the bridge.
    """

    tag: str
    addresses: dict[str, str] = field(default_factory=dict)
    namespaces: dict[str, str] = field(default_factory=dict)
    here: str = ""

    def cut(self, one: str, other: str, *, back: bool = True) -> None:
        """What `one` sends to `other` is lost; and what comes back, unless that is left whole."""
        self._neighbours("replace", one, other, "lladdr", NOBODY, "nud", "permanent")
        if back:
            self._neighbours("replace", other, one, "lladdr", NOBODY, "nud", "permanent")

    def heal(self, one: str, other: str) -> None:
        """Both ways are whole again, cut or not."""
        for here, there in ((one, other), (other, one)):
            # To replace it first makes sure that there is something to take away.
            self._neighbours("replace", here, there, "lladdr", NOBODY, "nud", "permanent")
            self._neighbours("del", here, there)

    def within(self, part: str) -> list[str]:
        """What comes before a command that is to run there."""
        return ["ip", "netns", "exec", self.namespaces[part]]

    def _neighbours(self, verb: str, here: str, there: str, *how: str) -> None:
        where = ("-n", self.namespaces[here], "neigh", verb, self.addresses[there])
        ip(*where, *how, "dev", "eth0")


@contextmanager
def network(parts: Sequence[str]) -> Iterator[Network]:
    """A network with these parts; gone with the block, once nothing runs there any more."""
    subnet, made = net(), Network(tag())
    bridge = f"cl{made.tag}"
    made.here = f"{subnet}.1"
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", f"{made.here}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for number, part in enumerate(parts, start=2):
            _join(made, part, f"{subnet}.{number}", bridge, number)
        yield made
    finally:
        for number, namespace in enumerate(made.namespaces.values(), start=2):
            ip("link", "del", f"{bridge}{number}", check=False)  # a namespace that is deleted ends some time later
            ip("netns", "del", namespace, check=False)
        ip("link", "del", bridge, check=False)


def tag() -> str:
    """What names of one network have in common, and nobody else's."""
    return secrets.token_hex(3)


def net() -> str:
    """The first three bytes of addresses that are most likely nobody's here."""
    return f"10.{64 + secrets.randbelow(128)}.{secrets.randbelow(256)}"


def missing() -> str:
    """Why there can be no such network here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces are root's to make: run as root"
    if shutil.which("ip") is None:
        return "iproute2 is not installed: apt-get install iproute2"
    tried = f"cl{tag()}"
    for what, made, gone in (
        ("network bridge", ("link", "add", tried, "type", "bridge"), ("link", "del", tried)),
        ("network namespace", ("netns", "add", tried), ("netns", "del", tried)),
    ):
        done = ip(*made, check=False)
        ip(*gone, check=False)
        if done.returncode:
            return f"no {what} can be made here: {done.stderr.decode().strip()}"
    return ""


def _join(made: Network, part: str, address: str, bridge: str, number: int) -> None:
    namespace, outside = f"{bridge}-{part}", f"{bridge}{number}"
    ip("netns", "add", namespace)
    made.namespaces[part], made.addresses[part] = namespace, address
    ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    ip("link", "set", outside, "master", bridge, "up")
    ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
    ip("-n", namespace, "link", "set", "eth0", "up")
    ip("-n", namespace, "link", "set", "lo", "up")


def ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run iproute2's `ip`."""
    return subprocess.run(["ip", *words], check=check, capture_output=True, timeout=20)
