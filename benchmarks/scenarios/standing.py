"""A mesh that stays up with networks of the benchmarks, for a load generator of your own: `make up MODEL=mlp,ffnn`.

Plain and sealed requests are answered; a plain one for each network lies ready as serialised protobuf.
"""

from __future__ import annotations

import argparse
import signal
import sys

from benchmarks.load import questions
from benchmarks.models.catalogue import NETWORKS, Network
from benchmarks.systems import mesh
from benchmarks.systems.running import REPOSITORY, Failed
from rich.console import Console

from cloister.cli.ports import FIRST

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Prepare, start, say where it is, wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=chosen_networks, required=True, metavar="NAME[,NAME...]")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of each worker; 0 lets OpenVINO choose")
    parser.add_argument("--gateways", type=int, default=1, help="each on a port of its own")
    parser.add_argument("--processes", type=int, default=1, help="of each gateway, behind its port")
    parser.add_argument("--port", type=int, default=FIRST, help="the services take the first free ports from here on")
    chosen = parser.parse_args()
    size = mesh.Size(
        workers=chosen.workers,
        threads=chosen.threads,
        gateways=chosen.gateways,
        gateway_processes=chosen.processes,
    )
    try:
        places = mesh.prepared(chosen.models, REPOSITORY / ".bench" / "up", chosen.port)
        with mesh.mesh(places, size) as running:
            target = running.targets["unary"]
            served = ", ".join(network.name for network in chosen.models)
            for address in mesh.gateways(places[0].mesh):
                console.print(f"{served} served at {address} as {target.server_name}, mutual TLS")
            console.print(f"  client identity  {target.identity}")
            console.print(f"  trust bundle     {target.trust}")
            for place in places:
                request = place.folder / "request.bin"
                request.parent.mkdir(exist_ok=True)
                request.write_bytes(questions.oip(place.network.name, place.network.questions()[0]))
                console.print(f"  a ModelInferRequest for {place.network.name}  {request}")
            console.print("Ctrl-C drains and stops it")
            signal.pause()
    except KeyboardInterrupt:
        return 130
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    return 0


def chosen_networks(names: str) -> list[Network]:
    """Of the catalogue, by names with commas between."""
    unknown = [name for name in names.split(",") if name not in NETWORKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    return [NETWORKS[name] for name in dict.fromkeys(names.split(","))]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
