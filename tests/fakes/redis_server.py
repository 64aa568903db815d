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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from cloister.gateway.jobs import access as jobs
from cloister.kit.redis_settings import RedisSettings
from cloister.verifier.replicas import access as replicas
from fakes.pki import MeshPki

USER, JOBS_USER = "verifier", "gateway"
PASSWORD, ADMIN = "a password of the tests", "another password of the tests"
DEFAULT = "user default off resetpass ~* &* +@all"
"""Nobody, who may do anything: as whom the append-only file is replayed."""


class RedisServer:
    """One server, started by `running`.

    Args:
        lines: More of its configuration; the last of two contradicting lines counts.
        users: In place of the access list.
        options: Of the program, after its configuration.
    """

    def __init__(
        self, folder: Path, pki: MeshPki, *, lines: str = "", users: str = "", options: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.port = free_port()
        self._options = options
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
            ["redis-server", str(self.folder / "redis.conf"), *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
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

    def take_identities(self, pki: MeshPki) -> None:
        """Replace the certificates of the server and of its clients by some of another authority."""
        pki.identity("verifier", "redis", ("localhost",), ("127.0.0.1",)).write(self.folder / "server")
        pki.identity("verifier", "main").write(self.folder / "client")

    def change_password(self, password: str) -> None:
        """Of the users that services are, in the access list and in their file."""
        users = self.folder / "users.acl"
        users.write_text(users.read_text().replace(sha256(PASSWORD), sha256(password)))
        (self.folder / "password").write_text(password)

    def _write(self, pki: MeshPki, lines: str, users: str) -> None:
        for name, content in (("password", PASSWORD.encode()), ("shared.key", b"s" * 32)):
            (self.folder / name).touch(mode=0o600)
            (self.folder / name).write_bytes(content)
        (self.folder / "users.acl").write_text(users or access_list(pki.cluster))
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
{'save ""' if not self._options else ""}
{"maxmemory-policy noeviction" if not self._options else ""}
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


def access_list(cluster: str, default: str = DEFAULT) -> str:
    """Who may do what: verifiers and gateways what their own lists say, and an administrator everything."""
    rules = {USER: replicas.rules(cluster), JOBS_USER: jobs.rules(cluster)}
    users = [f"user {user} on #{sha256(PASSWORD)} {rules[user]}" for user in rules]
    return "".join(f"{line}\n" for line in (default, *users, administrator()))


def administrator() -> str:
    """The line of somebody who may do anything."""
    return f"user admin on #{sha256(ADMIN)} ~* &* +@all"


def sha256(text: str) -> str:
    """As an access list has a password."""
    return hashlib.sha256(text.encode()).hexdigest()


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
