"""Flink's ports speak TLS 1.3 to whoever shows the one certificate, and to nobody else."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from cloister.cli import flink_stores
from cloister_stream import cluster_settings
from cloister_stream.local_cluster import JOB_MANAGER, TASK_MANAGER, LocalCluster
from cloister_stream.rest import Rest, tls_context
from fakes.flink_cluster import running_cluster, skip_without_flink
from fakes.running_mesh import RunningMesh

ANSWER_S = 10.0
"""A port that waits for a TLS handshake says nothing and hangs up; this long it is given to say something."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    skip_without_flink()
    mesh = RunningMesh(tmp_path_factory.mktemp("founded") / "mesh")
    mesh.found()  # its key stores are all that is needed of it
    with running_cluster(mesh, tmp_path_factory.mktemp("flink")) as running:
        yield running


def listening(pid: int) -> set[int]:
    """Ports that a process listens on."""
    inodes = {path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def internal_ports(cluster: LocalCluster) -> list[int]:
    """All but the REST interface's, and the loopback gRPC that a TaskManager has with its own functions only."""
    found = cluster_settings.read(cluster.conf)
    ports = listening(cluster.pid(JOB_MANAGER)) | listening(cluster.pid(TASK_MANAGER))
    return sorted(ports - {int(found["rest.port"])})


def store(cluster: LocalCluster, name: str) -> ssl.SSLContext:
    """A client that shows what Flink's own processes show."""
    found = cluster_settings.read(cluster.conf)
    kept = f"security.ssl.{name}.keystore"
    context = tls_context(Path(found[kept]), found[f"{kept}-password"])
    context.check_hostname = False
    return context


def anonymous() -> ssl.SSLContext:
    """A client that believes everything and shows nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def other(tmp_path: Path) -> ssl.SSLContext:
    """A client with a certificate of the same making, for another cluster."""
    flink_stores.write(tmp_path / "other", now=datetime.now(UTC))
    context = tls_context(tmp_path / "other" / "internal.p12", (tmp_path / "other" / "password").read_text())
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def admitted(port: int, context: ssl.SSLContext) -> bool:
    """Whether the handshake ends well on both sides; a server that refuses a certificate says so after it, in 1.3."""
    with socket.create_connection(("localhost", port), ANSWER_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                assert secure.version() == "TLSv1.3"
                secure.settimeout(2.0)
                return secure.recv(1) != b""
        except TimeoutError:
            return True  # it waits for what we have to say
        except (ssl.SSLError, ConnectionError):
            return False


def test_the_rest_interface_answers_to_its_certificate(cluster: LocalCluster) -> None:
    with Rest(cluster.access) as rest:
        assert rest.task_managers() == 1


@pytest.mark.parametrize("who", ["anonymous", "another cluster's", "internal", "TLS 1.2"])
def test_the_rest_interface_answers_to_nobody_else(cluster: LocalCluster, tmp_path: Path, who: str) -> None:
    context = store(cluster, "rest")
    match who:
        case "anonymous":
            context = anonymous()
        case "another cluster's":
            context = other(tmp_path)
        case "internal":
            context = store(cluster, "internal")
            context.verify_mode = ssl.CERT_NONE
        case _:
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(httpx.TransportError), httpx.Client(verify=context, trust_env=False) as client:
        client.get(f"https://{cluster.access.address}/overview")


def test_the_rest_interface_sends_who_speaks_plainly_to_tls(cluster: LocalCluster) -> None:
    answer = httpx.get(f"http://{cluster.access.address}/overview", trust_env=False)
    assert (answer.status_code, answer.content) == (301, b"")
    assert answer.headers["location"].startswith("https://")


def test_internal_ports_admit_flinks_own_certificate_and_no_other(cluster: LocalCluster, tmp_path: Path) -> None:
    ports = internal_ports(cluster)
    assert len(ports) >= 4  # RPC of both, blobs, data
    own, rest = store(cluster, "internal"), store(cluster, "rest")
    rest.verify_mode = ssl.CERT_NONE
    old = store(cluster, "internal")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert [port for port in ports if not admitted(port, own)] == []
    for stranger in (anonymous(), other(tmp_path), rest, old):
        assert [port for port in ports if admitted(port, stranger)] == []


def test_internal_ports_say_nothing_in_clear(cluster: LocalCluster) -> None:
    for port in internal_ports(cluster):
        with socket.create_connection(("localhost", port), ANSWER_S) as plain:
            plain.sendall(b"\0\0\0\x10AKKA" + b"\0" * 64)
            plain.settimeout(ANSWER_S)
            said = plain.recv(64)
        assert said == b"" or said[0] == 0x15, port  # nothing, or a TLS alert
