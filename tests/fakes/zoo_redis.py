"""A Redis as Cluster Serving's clients know it: no user, no password, nothing that is checked. It keeps what it has."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from cloister.rpc.identity import TlsFiles
from fakes.redis_server import free_port


class ZooRedis:
    """One server of theirs.

    Args:
        folder: Of its data and its socket.
        tls: By which it serves TLS, to clients with a certificate; else it is reached without.
    """

    def __init__(self, folder: Path, tls: TlsFiles | None = None) -> None:
        folder.mkdir()
        self.port = free_port()
        self._tls = tls
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'redis' if self._tls is None else 'rediss'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run it until it answers."""
        options = {"dir": self._folder, "appendonly": "yes", "appendfsync": "always", "save": ""}
        if self._tls is None:
            options |= {"port": self.port, "bind": "127.0.0.1"}
        else:
            options |= {
                "port": 0,
                "tls-port": self.port,
                "tls-cert-file": self._tls.certificate,
                "tls-key-file": self._tls.private_key,
                "tls-ca-cert-file": self._tls.trust_roots,
            }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._process = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            try:
                self.client().ping()
                return
            except (RedisError, OSError):
                assert self._process.poll() is None, "redis-server ended by itself"
                time.sleep(0.01)
        raise AssertionError("redis-server does not answer")

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> Redis:
        """For a `ZooClient`."""
        if self._tls is None:
            return Redis("127.0.0.1", self.port, socket_timeout=5, protocol=2)
        return Redis(
            "127.0.0.1",
            self.port,
            ssl=True,
            ssl_certfile=str(self._tls.certificate),
            ssl_keyfile=str(self._tls.private_key),
            ssl_ca_certs=str(self._tls.trust_roots),
            socket_timeout=5,
            protocol=2,
        )


@contextmanager
def zoo_redis_running(folder: Path, tls: TlsFiles | None = None) -> Iterator[ZooRedis]:
    """A server for one test; skips the test where there is none to run."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: run `sudo sh deploy/redis.sh`")
    server = ZooRedis(folder, tls)
    try:
        server.start()
        yield server
    finally:
        server.kill()
