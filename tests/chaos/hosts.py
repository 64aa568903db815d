"""Pull the cable of one host of a mesh after the other, and kill each, under load: `python -m chaos hosts`.

Every part is on a host of its own (`lan`), with real processes under the supervisor that never tires. What clients were
told is in their journals; what came of it all is judged when the mesh has settled.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from chaos.asked import LATE_S, Asks, well_again_s, wrong
from chaos.asking import WAYS, Pace
from chaos.burning_mesh import BurningMesh, published
from chaos.clients import Keeper, clients, ended
from chaos.crash import CALMS_S, CLIENTS, Crash, Fire, order
from chaos.cut import spread
from chaos.found import Found, found
from chaos.lan import Lan, lan
from chaos.lookout import Lookout, lookout
from chaos.verdict import Verdict, judged, openvino
from chaos.wire import Weather
from fakes.running_mesh import until

WORKERS = 4
CLIENT = "client"
GATEWAYS = ("gateway", "gateway-2")
HOSTS = (CLIENT, *GATEWAYS, "redis", "verifier", "provisioner", *(f"worker-{at + 1}" for at in range(WORKERS)))
BOOT_S = 4.0
"""How long a host whose power went is away, at least: its programs start when it is on the network again."""
LONGEST_S = 90.0
"""What is not well by then is noted as not well."""
TICK_S = 0.25
USUAL_S = 20.0


class Kind(Enum):
    """What happens to a host."""

    CUT = "cut off"
    """Its cable is out for a while: its processes live, and nobody is told anything."""
    KILLED = "killed"
    """SIGKILL of all its processes; its kernel says goodbye for them, and the supervisor starts them again."""
    OFF = "power off"
    """The same with the cable out first: nobody is told, and the host forgets its connections."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One thing that happens."""

    kind: Kind
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """One that was done; Unix times, and seconds from `over_at`, None where it was not well within `LONGEST_S`.

    Attributes:
        over_at: When the cable was in again; of a kill, when it was done.
        next_at: When we looked no longer.
        back_s: Until its program took connections again.
        links_s: Until both gateways had a link with every worker, and kept it.
        well_s: Until requests of the SDK were answered in time again, and went on being so.
        load: Processes that ran or wanted to, averaged over a minute, at its end.
    """

    blow: Blow
    began_at: float
    over_at: float
    next_at: float
    back_s: float | None
    links_s: float | None
    well_s: float | None
    load: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What to do.

    Attributes:
        lasts_s: Of a cut.
        rate: Requests a second of each way through each gateway.
        timeout_s: Deadline of requests by the SDK.
    """

    folder: Path
    blows: Sequence[Blow]
    jobs: int
    lasts_s: float = 10.0
    rate: float = 6.0
    timeout_s: float = 30.0
    weather: Weather = field(default_factory=Weather)
    seed: int = 1

    @property
    def sdk_rate(self) -> float:
        """Requests a second by the SDK, all together."""
        return self.rate * len(WAYS) * len(GATEWAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weathered:
    """What came of it all.

    Attributes:
        carried: What the wire says of its frames.
    """

    verdict: Verdict
    struck: Sequence[Struck]
    asks: Asks
    everything: Found
    carried: dict[str, Any]
    lasted_s: float


def blows(kinds: Sequence[Kind], hosts: Sequence[str] = HOSTS) -> list[Blow]:
    """Each of these kinds, of each host in turn."""
    return [Blow(kind, host) for kind in kinds for host in hosts]


def weathered(asked: Storm, report: Callable[[str], None]) -> Weathered:
    """All of it; raises AssertionError where not even the end was reached."""
    with ExitStack() as stack:
        net = stack.enter_context(lan(HOSTS, asked.weather))
        mesh = spread(asked.folder / "mesh", net)
        stack.enter_context(mesh.up(WORKERS, "--gateways", str(len(GATEWAYS))))
        gateways = {name: str(mesh.program(name)["address"]) for name in GATEWAYS}
        published(mesh)
        share = asked.folder / "share"
        crash = Crash(folder=asked.folder, jobs=asked.jobs, kills=0, gap_s=0.0, fsync="", seed=asked.seed)
        orders = [
            replace(order(mesh, crash, share, owner), gateway=",".join(gateways.values())) for owner in range(CLIENTS)
        ]
        within = net.within(CLIENT)
        submitting = stack.enter_context(clients(orders, asked.folder, within))
        asking = _asking(asked, mesh, gateways, share, within)
        stack.enter_context(ended([asking]))
        links = stack.enter_context(lookout(list(gateways.values()), mesh.identity("operator"), WORKERS))
        fire = Fire(mesh, [*submitting, asking], share)
        asks = Asks(asking.folder / "asked.jsonl")
        began = time.monotonic()
        struck = Striker(asked, mesh, net, fire, asks, links, report).strike_all()
        fire.settle(CALMS_S)
        lasted_s = time.monotonic() - began
        asks.look()
        everything = asyncio.run(found(mesh, submitting))
    truth = openvino()
    verdict = judged(everything, truth)
    for rule, what in wrong(asks.all, truth):
        verdict.complaints[rule].append(what)
    verdict.look_at(mesh)
    return Weathered(
        verdict=verdict, struck=struck, asks=asks, everything=everything, carried=net.carried, lasted_s=lasted_s
    )


def _asking(asked: Storm, mesh: BurningMesh, gateways: dict[str, str], share: Path, within: Sequence[str]) -> Keeper:
    folder = asked.folder / "asking"
    pace = Pace(
        gateways=gateways,
        trust=str(mesh.trust),
        identity=str(mesh.identity(CLIENT)),
        rate=asked.rate,
        timeout_s=asked.timeout_s,
        over=str(share),
    )
    pace.write(folder)
    return Keeper("chaos.asking", folder, within)


class Striker:
    """Strikes one blow after the other, each when the one before is over."""

    def __init__(
        self,
        asked: Storm,
        mesh: BurningMesh,
        net: Lan,
        fire: Fire,
        asks: Asks,
        links: Lookout,
        report: Callable[[str], None],
    ) -> None:
        self._asked, self._mesh, self._net, self._fire = asked, mesh, net, fire
        self._asks, self._links, self._report = asks, links, report

    def strike_all(self) -> list[Struck]:
        """Everything that is planned, once all is well."""
        self._fire.burnt(0.0)
        began_at, struck = time.time(), list[Struck]()
        until(lambda: self._well_s(began_at) is not None, "all is well", LONGEST_S)
        self._report(f"all is well; {len(self._asked.blows)} blows begin")
        for at, blow in enumerate(self._asked.blows):
            each = self._strike(blow, at)
            struck.append(each)
            self._report(f"{at + 1} of {len(self._asked.blows)}: {described(each)}")
        self._fire.burnt(1.0)
        return struck

    def _strike(self, blow: Blow, at: int) -> Struck:
        began_at = over_at = time.time()
        if blow.kind is not Kind.KILLED:
            self._net.pull(blow.host)
        if blow.kind is not Kind.CUT:
            assert self._net.kill(blow.host), f"nothing ran on {blow.host}"
        if blow.kind is not Kind.KILLED:
            self._wait(self._asked.lasts_s if blow.kind is Kind.CUT else BOOT_S, at, began_at)
            self._net.plug(blow.host)
            over_at = time.time()
        back_s = links_s = well_s = None
        while time.time() < over_at + LONGEST_S and (back_s is None or links_s is None or well_s is None):
            self._wait(TICK_S, at, began_at)
            if back_s is None and self._is_back(blow.host):
                back_s = time.time() - over_at
            whole_at = self._links.whole_since(over_at)
            links_s = None if whole_at is None else whole_at - over_at
            well_s = self._well_s(over_at)
        return Struck(
            blow=blow,
            began_at=began_at,
            over_at=over_at,
            next_at=time.time(),
            back_s=back_s,
            links_s=links_s,
            well_s=well_s,
            load=os.getloadavg()[0],
        )

    def _well_s(self, since_at: float) -> float | None:
        self._fire.wait(0.0)
        self._asks.look()
        return well_again_s(self._asks, since_at, time.time() - LATE_S, self._asked.sdk_rate)

    def _is_back(self, host: str) -> bool:
        if host == CLIENT:
            return True
        address, _, port = str(self._mesh.program(host)["address"]).rpartition(":")
        try:
            socket.create_connection((address, int(port)), TICK_S).close()
        except OSError:
            return False
        return True

    def _wait(self, wait_s: float, at: int, began_at: float) -> None:
        """Let time go by, and with it jobs come: each blow has its part of them."""
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s:
            self._fire.wait(min(TICK_S, wait_s))
            part = min(1.0, (time.time() - began_at) / USUAL_S)
            self._fire.burnt((at + part) / len(self._asked.blows) * 0.999)


def described(struck: Struck) -> str:
    """For a person."""
    figures = {"back": struck.back_s, "all links": struck.links_s, "all in time": struck.well_s}
    after = ", ".join(f"{what} {'never' if s is None else f'{s:.1f} s'}" for what, s in figures.items())
    return f"{struck.blow.host} {struck.blow.kind.value}; after it: {after}; load {struck.load:.1f}"
