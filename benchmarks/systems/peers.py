"""The servers that a user would pick otherwise, each in a virtual environment of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.load.carriers import Target
from benchmarks.load.questions import Arrays
from benchmarks.systems.mesh import CLUSTER
from benchmarks.systems.running import REPOSITORY, Failed, Place, Running, process, wait_for_port

from cloister.cli.ports import free_ports

PEERS_DIR = REPOSITORY / "benchmarks" / "peers"
VENVS = REPOSITORY / ".venv-peers"
FIRST_PORT = 25_000
SPAN = 16  # some listen on the next ports too
PATIENCE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them.

    Attributes:
        name: Of its folders, `benchmarks/peers/<name>` and `.venv-peers/<name>`.
        carriers: How it can be asked.
        tls: Whether it speaks mutual TLS; the others have none to offer.
    """

    name: str
    carriers: Sequence[str]
    tls: bool = False


PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        peer.name: peer
        for peer in (
            Peer("grpc_aio", ("unary", "stream"), tls=True),
            Peer("triton", ("unary",), tls=True),
            Peer("mlserver", ("unary",)),
            Peer("kserve", ("unary",)),
            Peer("mosec", ("http",)),
        )
    }
)


@contextmanager
def running(peer: Peer, place: Place, answer: Arrays) -> Iterator[Running]:
    """The peer, once it listens.

    Args:
        peer: Which.
        place: What to serve, and where logs go.
        answer: An answer, for the shapes of the outputs.

    Raises:
        Failed: It is not installed, or it does not listen.
    """
    (port,) = free_ports(1, first=FIRST_PORT + SPAN * list(PEERS).index(peer.name))
    log = place.folder / "logs" / f"{peer.name}.log"
    with process(_command(peer, place, port), log, {"BENCH_MODEL": str(place.xml.absolute())}) as pid:
        wait_for_port(port, pid, log)
        yield Running(name=peer.name, services={peer.name: pid}, targets=_targets(peer, place, port, answer))


def _command(peer: Peer, place: Place, port: int) -> list[str | Path]:
    python = VENVS / peer.name / "bin" / "python"
    if not python.exists():
        raise Failed(f"{peer.name} is not installed: 'make bench PEERS={peer.name}' does that")
    server = PEERS_DIR / peer.name / "server.py"
    if peer.name == "mosec":  # takes no arguments but its own
        return [python, server, "--port", str(port), "--address", "127.0.0.1", "--timeout", str(PATIENCE_MS)]
    command: list[str | Path] = [
        python,
        server,
        "--model",
        place.xml.absolute(),
        "--name",
        place.network.name,
        "--port",
        str(port),
    ]
    if peer.tls:
        command += ["--identity", place.mesh.absolute() / "identities" / "gateway" / "main"]
    if peer.name == "triton":
        command += ["--folder", place.folder.absolute() / peer.name]
    return command


def _targets(peer: Peer, place: Place, port: int, answer: Arrays) -> dict[str, Target]:
    identity = place.mesh.absolute() / "identities" / "client" / "main"
    outputs = tuple((name, tuple(array.shape), array.dtype.name) for name, array in answer.items())
    return {
        carrier: Target(
            carrier=carrier,
            address=f"127.0.0.1:{port}",
            model=place.network.name,
            questions=str(place.questions),
            identity=str(identity) if peer.tls else "",
            server_name=f"gateway.{CLUSTER}",
            outputs=outputs,
        )
        for carrier in peer.carriers
    }
