"""Cut any two parts of a mesh from each other and heal that, at random, under jobs: `python -m chaos cut`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chaos.burning_mesh import BurningMesh, founded, published
from chaos.clients import clients
from chaos.crash import CALMS_S, CLIENTS, Crash, Fire, order
from chaos.found import found
from chaos.namespaces import Network, network
from chaos.verdict import Verdict, judged, openvino
from cloister.cli.mesh_folder import Mesh

PARTS = ("client", "gateway", "redis", "verifier", "provisioner", "worker-1", "worker-2")
PAIRS = (
    ("client", "gateway"),
    ("gateway", "worker-1"),
    ("gateway", "worker-2"),
    ("gateway", "redis"),
    ("gateway", "verifier"),
    ("worker-1", "verifier"),
    ("worker-2", "provisioner"),
    ("provisioner", "verifier"),
)
LOOPBACK = "127.0.0.1"
LASTS_S, QUICK_S, LONG_S = (1.0, 8.0), (0.3, 1.5), 40.0
"""Most are over before anybody's patience is; one in each dozen lasts until connections are given up."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One cut.

    Attributes:
        back: Whether what comes back is lost as well.
    """

    pair: tuple[str, str]
    back: bool
    lasts_s: float
    pause_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """What came of it all."""

    verdict: Verdict
    cuts: Sequence[Cut]
    ended_at: Sequence[float]
    began_at: Sequence[float]
    lasted_s: float


def cuts(seed: int, count: int, *, quick: bool = False) -> list[Cut]:
    """So many; every pair before any comes a second time. Quick ones are over before anybody is told anything."""
    draw, pairs = Random(seed), []
    while len(pairs) < count:
        pairs += draw.sample(PAIRS, len(PAIRS))
    found = []
    for number, pair in enumerate(pairs[:count], start=1):
        lasts_s = draw.uniform(*(QUICK_S if quick else LASTS_S))
        if number % 12 == 0 and not quick:
            lasts_s = LONG_S
        pause_s = draw.uniform(0.2, 0.5 if quick else 2.5)
        found.append(Cut(draw.choice([pair, pair[::-1]]), draw.random() < 0.7, lasts_s, pause_s))
    return found


def cut(folder: Path, jobs: int, planned: Sequence[Cut], seed: int, report: Callable[[str], None]) -> Healed:
    """All of it; raises AssertionError where not even the end was reached."""
    with network(PARTS) as net:
        mesh = spread(folder / "mesh", net)
        share = folder / "share"
        asked = Crash(folder=folder, jobs=jobs, kills=0, gap_s=0.0, fsync="everysec", seed=seed)
        orders = [order(mesh, asked, share, owner) for owner in range(CLIENTS)]
        with mesh.up(), clients(orders, folder, net.within("client")) as keepers:
            published(mesh)
            report("the mesh serves; the cuts begin")
            fire = Fire(mesh, keepers, share)
            fire.burnt(0.0)
            began, began_at = time.monotonic(), []
            for number, each in enumerate(planned, start=1):
                fire.wait(each.pause_s)
                net.cut(*each.pair, back=each.back)
                began_at.append(time.time())
                fire.wait(each.lasts_s)
                net.heal(*each.pair)
                fire.burnt(number / len(planned))
                if number % len(PAIRS) == 0:
                    report(f"{number} of {len(planned)} cuts")
            fire.settle(CALMS_S)
            lasted_s = time.monotonic() - began
            everything = asyncio.run(found(mesh, keepers))
    ended_at = sorted(end["at"] for job in everything.jobs for end in job.ends)
    verdict = judged(everything, openvino())
    verdict.look_at(mesh)
    return Healed(verdict=verdict, cuts=planned, ended_at=ended_at, began_at=began_at, lasted_s=lasted_s)


def spread(folder: Path, net: Network) -> BurningMesh:
    """A mesh, not started, each part of which is in a namespace of its own and told where the others are."""
    places = folder.parent / "places.json"
    named = {part: {"namespace": net.namespaces[part], "address": net.addresses[part]} for part in net.addresses}
    folder.parent.mkdir(parents=True, exist_ok=True)
    places.write_text(json.dumps(named))
    mesh = founded(folder, "everysec", places, hosts=tuple(net.addresses.values()))
    told = Mesh.read(folder)
    homes = {"gateway": told.gateway, "verifier": told.verifier, "provisioner": told.provisioner, "redis": told.redis}
    homes |= {"verifier https": told.verifier_https, "gateway https": told.gateway_https}
    for path in (folder / "mesh.toml", *folder.glob("*/settings.toml")):
        text = path.read_text()
        for part, address in homes.items():
            text = text.replace(address, address.replace(LOOPBACK, net.addresses[part.partition(" ")[0]]))
        path.write_text(text)
    configuration = told.redis_folder / "redis.conf"
    configuration.write_text(configuration.read_text().replace(f"bind {LOOPBACK}", f"bind {net.addresses['redis']}"))
    return mesh
