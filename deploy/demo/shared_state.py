"""Redis for a mesh's verifier, as docs/guides/verifier-replicas.md has it: ciphertext only, over mutual TLS.

One verifier would keep its state itself. It is here so that the enclave of Redis has something to do.

    python deploy/demo/shared_state.py MESH
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import tomllib
from pathlib import Path

from stage import cloister

from cloister.cli.ports import free_ports, port_of

USER = "verifier"
COMMANDS = (
    "-@all +evalsha +script|load +acl|whoami +ping +info +time +type +exists +strlen +get +set +del +pexpire +xadd "
    "+xrange +zadd +zrem +zcard +zrange +zremrangebyscore"
)


def found_redis(mesh: Path) -> None:
    """Write MESH/redis, and name it in the verifier's settings; the verifier must not have been started yet."""
    addresses = tomllib.loads((mesh / "mesh.toml").read_text())["addresses"].values()
    taken = [port_of(address) for address in addresses]
    (port,) = free_ports(1, besides=taken, first=max(taken) + 8)
    # As a console, which may only look: with a certificate of its own role it could pass for the verifier.
    cloister("identity", "issue", "console", "redis", "--host", "127.0.0.1", "--mesh", mesh)
    folder = mesh / "redis"
    folder.mkdir(mode=0o700)
    password = secrets.token_urlsafe(32)
    for name, content in (("password", password.encode()), ("shared.key", secrets.token_bytes(32))):
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
    cluster = tomllib.loads((mesh / "mesh.toml").read_text())["cluster"]
    digest = hashlib.sha256(password.encode()).hexdigest()
    (folder / "users.acl").write_text(f"user default off\nuser {USER} on #{digest} ~{cluster}:verifier:* {COMMANDS}\n")
    (folder / "redis.conf").write_text(_configuration(port))
    settings = mesh / "verifier" / "settings.toml"
    settings.write_text(settings.read_text() + _table(port))


def _configuration(port: int) -> str:
    identity = "../identities/console/redis"
    return f"""bind 127.0.0.1
port 0
tls-port {port}
tls-cert-file {identity}/certificate.pem
tls-key-file {identity}/private_key.pem
tls-ca-cert-file {identity}/trust_roots.pem
tls-auth-clients yes
aclfile users.acl
maxmemory-policy noeviction
"""


def _table(port: int) -> str:
    identity = "../identities/verifier/main"
    return f"""
[redis]
url = "rediss://127.0.0.1:{port}"
trust_roots = "{identity}/trust_roots.pem"
certificate = "{identity}/certificate.pem"
private_key = "{identity}/private_key.pem"
user = "{USER}"
password_file = "../redis/password"
shared_key = "../redis/shared.key"
"""


if __name__ == "__main__":
    found_redis(Path(sys.argv[1]))
