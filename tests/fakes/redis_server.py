"""A real redis-server: TLS with client certificates, an access list whose default user is off, and a data folder.

It can be killed, set back to an older copy with a restart or in place, and flushed. Where redis-server is not
installed, tests that need it are skipped and counted; `sh deploy/redis.sh` installs it.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from cloister.kit.redis import RedisSettings
from fakes.pki import MeshPki

USER, PASSWORD, ADMIN = "verifier", "a password of the tests", "another password of the tests"
# What docs/guides/verifier-replicas.md tells the operator to write.
COMMANDS = (
    "-@all +evalsha +script|load +acl|whoami +ping +info +time +type +exists +strlen +get +set +del +pexpire +xadd "
    "+xrange +zadd +zrem +zcard +zrange +zremrangebyscore"
)


class RedisServer:
    """One server, started by `running`.

    Args:
        lines: More of its configuration; the last of two contradicting lines counts.
        users: In place of the access list.
    """

    def __init__(self, folder: Path, pki: MeshPki, *, lines: str = "", users: str = "") -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        server = pki.identity("verifier", "redis", ("localhost",), ("127.0.0.1",))
        self._server = server.write(folder / "server")
        self._client = pki.identity("verifier", "main").write(folder / "client")
        self._write(pki, lines, users)

    def settings(self, **changes: Any) -> RedisSettings:
        """What a replica is told of it."""
        fields: dict[str, Any] = {
            "url": f"rediss://127.0.0.1:{self.port}",
            "trust_roots": self._client.trust_roots,
            "certificate": self._client.certificate,
            "private_key": self._client.private_key,
            "user": USER,
            "password_file": self.folder / "password",
            "shared_key": self.folder / "shared.key",
        }
        return RedisSettings(**{**fields, **changes})

    def start(self) -> None:
        """Run it until it answers."""
        self._process = subprocess.Popen(
            ["redis-server", str(self.folder / "redis.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            try:
                self.admin("PING")
                return
            except (RedisError, OSError):
                assert self._process.poll() is None, "redis-server ended by itself"
                time.sleep(0.01)
        raise AssertionError("redis-server does not answer")

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def admin(self, *words: str | bytes | int) -> Any:
        """A command by somebody who may do anything."""
        with Redis(
            "127.0.0.1",
            self.port,
            username="admin",
            password=ADMIN,
            ssl=True,
            ssl_ca_certs=str(self._client.trust_roots),
            ssl_certfile=str(self._client.certificate),
            ssl_keyfile=str(self._client.private_key),
            socket_timeout=5,
            protocol=2,
        ) as client:
            return client.execute_command(*words)

    def restart_whole(self) -> None:
        """End it in order, with all its content on disk, and start it: nothing is lost."""
        with suppress(RedisError):
            self.admin("SHUTDOWN", "SAVE")
        self.kill()
        self.start()

    def saved(self) -> Path:
        """A copy of everything, as a snapshot on disk would have it."""
        self.admin("SAVE")
        return Path(shutil.copy(self.data / "dump.rdb", self.folder / "older.rdb"))

    def restart_from(self, copy: Path) -> None:
        """Kill it, put an older copy in place, start it."""
        self.kill()
        shutil.copy(copy, self.data / "dump.rdb")
        self.start()

    def dumped(self) -> dict[bytes, tuple[int, bytes]]:
        """Every key with its life in ms and its content."""
        return {key: (max(0, self.admin("PTTL", key)), self.admin("DUMP", key)) for key in self.admin("KEYS", "*")}

    def set_back(self, dumped: dict[bytes, tuple[int, bytes]]) -> None:
        """Make the content what it was, in the same process: nothing restarts, no connection breaks."""
        self.admin("FLUSHALL")
        for key, (life_ms, content) in dumped.items():
            self.admin("RESTORE", key, life_ms, content, "REPLACE")

    def _write(self, pki: MeshPki, lines: str, users: str) -> None:
        for name, content in (("password", PASSWORD.encode()), ("shared.key", b"s" * 32)):
            (self.folder / name).touch(mode=0o600)
            (self.folder / name).write_bytes(content)
        (self.folder / "users.acl").write_text(
            users
            or f"user default off\nuser {USER} on #{_sha256(PASSWORD)} ~{pki.cluster}:verifier:* {COMMANDS}\n"
            f"user admin on #{_sha256(ADMIN)} ~* &* +@all\n"
        )
        tls = self._server
        (self.folder / "redis.conf").write_text(
            f"""bind 127.0.0.1
port 0
tls-port {self.port}
tls-cert-file {tls.certificate}
tls-key-file {tls.private_key}
tls-ca-cert-file {tls.trust_roots}
tls-auth-clients yes
tls-protocols TLSv1.3
aclfile {self.folder / "users.acl"}
dir {self.data}
save ""
maxmemory-policy noeviction
{lines}
"""
        )


@contextmanager
def redis_running(folder: Path, pki: MeshPki, **how: Any) -> Iterator[RedisServer]:
    """A server for one test; skips the test where there is none to run."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: run `sudo sh deploy/redis.sh`")
    server = RedisServer(folder, pki, **how)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
