"""A mesh that stays up with one network of the benchmarks, for a load generator of your own: `make up MODEL=mlp`.

Plain and sealed requests are answered; a plain one lies ready as serialised protobuf.
"""

from __future__ import annotations

import argparse
import signal
import sys

from benchmarks.load import questions
from benchmarks.models.catalogue import NETWORKS
from benchmarks.systems import mesh
from benchmarks.systems.running import REPOSITORY, Failed
from rich.console import Console

from cloister.cli.ports import FIRST

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Prepare, start, say where it is, wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=NETWORKS, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of each worker; 0 lets OpenVINO choose")
    parser.add_argument("--port", type=int, default=FIRST, help="the services take the first free ports from here on")
    chosen = parser.parse_args()
    network = NETWORKS[chosen.model]
    try:
        place = mesh.prepared(network, REPOSITORY / ".bench" / "up", chosen.port)
        request = place.folder / "request.bin"
        request.write_bytes(questions.oip(network.name, network.questions()[0]))
        with mesh.mesh(place, chosen.workers, chosen.threads) as running:
            target = running.targets["unary"]
            console.print(f"{network.name} is served at {target.address} as {target.server_name}, mutual TLS")
            console.print(f"  client identity  {target.identity}")
            console.print(f"  trust bundle     {target.trust}")
            console.print(f"  a ModelInferRequest  {request}")
            console.print("Ctrl-C drains and stops it")
            signal.pause()
    except KeyboardInterrupt:
        return 130
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
