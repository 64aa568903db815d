"""More than one real Redis over mutual TLS: a master with a replica and a Sentinel, and a Cluster of three nodes.

They are configured with the lines that docs/guides/redis.md tells an operator to write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.exceptions import RedisError

from cloister.kit.redis_settings import RedisSettings
from fakes.pki import MeshPki
from fakes.redis_guide import block
from fakes.redis_server import JOBS_USER, PASSWORD, RedisServer, access_list, administrator, free_port, redis_running
from fakes.running_services import private_file

MASTER: Final = "jobs"
SENTINEL_USER: Final = "watching"
DURABLE: Final = "appendonly yes\nappendfsync always"
SLOTS: Final = 16_384


@dataclass(frozen=True)
class Watched:
    """A master, its replica, and the Sentinel that watches them; fails over within a second or two."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer

    def settings(self, **changes: Any) -> RedisSettings:
        """What a gateway is told."""
        password = private_file(self.sentinel.folder / "watching.password", PASSWORD.encode())
        fields = {
            "url": f"rediss://127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}",  # the first is away
            "user": JOBS_USER,
            "sentinel": MASTER,
            "sentinel_user": SENTINEL_USER,
            "sentinel_password_file": password,
        }
        return self.master.settings(**{**fields, **changes})


@contextmanager
def watched(folder: Path, pki: MeshPki) -> Iterator[Watched]:
    """Started, the replica in step with its master."""
    # Last lines count: a test writes when one of two is dead, and one Sentinel must do.
    lines = f"{DURABLE}\n{block('replica')}repl-diskless-sync-delay 0\nmin-replicas-to-write 0"
    users = access_list(pki.cluster) + block("acl-watched")
    with ExitStack() as stack:
        master = stack.enter_context(redis_running(folder / "master", pki, lines=lines, users=users))
        following = f"{lines}\nreplicaof 127.0.0.1 {master.port}"
        replica = stack.enter_context(redis_running(folder / "replica", pki, lines=following, users=users))
        _until(lambda: b"master_link_status:up" in _info(replica), "the replica is in step")
        watching = block("sentinel").replace("redis-1.example.internal 6379 2", f"127.0.0.1 {master.port} 1")
        watching += f"sentinel down-after-milliseconds {MASTER} 500\n"
        sentinel = redis_running(
            folder / "sentinel",
            pki,
            lines=watching,
            users=f"{block('acl-sentinel')}{administrator()}\n",
            options=("--sentinel",),
        )
        yield Watched(master, replica, stack.enter_context(sentinel))


@dataclass(frozen=True)
class Clustered:
    """Three masters that share the slots."""

    nodes: Sequence[RedisServer]

    def settings(self, **changes: Any) -> RedisSettings:
        """What a gateway is told: two of three."""
        url = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])
        return self.nodes[0].settings(**{"url": f"rediss://{url}", "user": JOBS_USER, "cluster": True, **changes})


@contextmanager
def clustered(folder: Path, pki: MeshPki) -> Iterator[Clustered]:
    """Started, and in agreement."""
    with ExitStack() as stack:
        nodes = []
        for number in range(3):
            bus = free_port()
            lines = f"{DURABLE}\n{block('cluster')}cluster-port {bus}\ncluster-node-timeout 3000"
            nodes.append(stack.enter_context(redis_running(folder / f"node-{number}", pki, lines=lines)))
            nodes[0].admin("CLUSTER", "MEET", "127.0.0.1", nodes[number].port, bus)
            each = SLOTS // 3 + 1
            nodes[number].admin("CLUSTER", "ADDSLOTSRANGE", number * each, min((number + 1) * each, SLOTS) - 1)
        for node in nodes:
            _until(lambda node=node: "cluster_state:ok" in _said(node, "CLUSTER", "INFO"), "the nodes agree")  # type: ignore[misc]
        yield Clustered(nodes)


def _info(server: RedisServer) -> bytes:
    return _said(server, "INFO", "replication").encode()


def _said(server: RedisServer, *words: str) -> str:
    told = server.admin(*words)
    if isinstance(told, dict):
        return "\n".join(f"{name}:{value}" for name, value in told.items())
    return told.decode() if isinstance(told, bytes) else str(told)


def _until(reached: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            if reached():
                return
        except (RedisError, OSError):
            pass
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.02)
