"""MESH/redis: what a Redis of the mesh's own is started with, and what the services that use it are told.

redis.conf         no port without TLS, client certificates, an append-only file
users.acl          who may do what: nobody by default, gateways, verifiers, an operator who only looks
<user>.password    of each; the list above holds their SHA-256 only
shared.key         what gateways authenticate jobs by; Redis never sees it
verifier.key       what verifiers seal by, which no gateway has
appendonlydir/     what it keeps
"""

from __future__ import annotations

import hashlib
import re
import secrets
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import MAIN, Mesh
from cloister.gateway.jobs import access as jobs
from cloister.kit.redis_settings import SHARED_KEY_BYTES, RedisSettings
from cloister.rpc.files import create_private, replace_private
from cloister.verifier.replicas import access as replicas

CONFIGURATION: Final = "redis.conf"
USERS: Final = "users.acl"
SHARED_KEY, VERIFIER_KEY = "shared.key", "verifier.key"
DATA: Final = "appendonlydir"
MANIFEST: Final = "appendonly.aof.manifest"
GATEWAY, VERIFIER, OPERATOR = "gateway", "verifier", "operator"
# What scripts wrote is replayed from the append-only file as this user, and dropped if it may not write; being off, it
# is nobody (https://github.com/redis/redis/issues/14541).
_DEFAULT: Final = "user default off resetpass ~* &* +@all"
_LOOKING: Final = "-@all +ping +info +dbsize +slowlog|get +slowlog|len +memory|stats +memory|doctor +acl|whoami"
_HASH: Final = re.compile(r"#[0-9a-f]{64}")


def found(mesh: Mesh) -> None:
    """Make the folder, for a mesh that has an address and an identity for it."""
    mesh.redis_folder.mkdir(mode=0o700)
    rules = _rules(mesh)
    hashes = {user: _new_password(mesh, user) for user in rules}
    lines = [_DEFAULT, *(f"user {user} on {hashes[user]} {rules[user]}" for user in rules)]
    create_private(mesh.redis_folder / USERS, "".join(f"{line}\n" for line in lines).encode())
    for name in (SHARED_KEY, VERIFIER_KEY):
        create_private(mesh.redis_folder / name, secrets.token_bytes(SHARED_KEY_BYTES))
    (mesh.redis_folder / CONFIGURATION).write_text(_configuration(mesh))


def rotate_passwords(mesh: Mesh) -> list[str]:
    """Give each user that has a password file a new password; return them.

    The rest of the list stays as it is, but for what one of our users must be allowed since the mesh was founded.

    Raises:
        Stop: The access list knows one of them not, or by more than one password.
    """
    users = mesh.redis_folder / USERS
    lines = users.read_text().splitlines()
    names = [path.stem for path in sorted(mesh.redis_folder.glob("*.password"))]
    at = {name: _line_of(lines, name, users) for name in names}
    for name in names:
        lines[at[name]] = _HASH.sub(_new_password(mesh, name), _allowed(lines[at[name]], _rules(mesh).get(name, "")))
    # Redis is started anew when this file changes, and whoever is cut off then reads its new password.
    replace_private(users, "".join(f"{line}\n" for line in lines).encode())
    return names


def rotate_shared_key(mesh: Mesh, now: datetime) -> Path:
    """Make other shared keys, and put aside what was kept under the old ones; Redis and services must not run.

    Returns:
        Where it is now, if there was anything.
    """
    aside = mesh.redis_folder / f"{DATA}.before-{now:%Y%m%dT%H%M%SZ}"
    if (mesh.redis_folder / DATA).exists():
        (mesh.redis_folder / DATA).rename(aside)
    for name in (SHARED_KEY, VERIFIER_KEY):
        replace_private(mesh.redis_folder / name, secrets.token_bytes(SHARED_KEY_BYTES))
    return aside


def add_verifier_key(mesh: Mesh) -> Path | None:
    """Give the verifiers of a mesh that was founded without it a key of their own; returns it if there was none."""
    path = mesh.redis_folder / VERIFIER_KEY
    if path.exists():
        return None
    create_private(path, secrets.token_bytes(SHARED_KEY_BYTES))
    return path


def settings_values(mesh: Mesh, user: str) -> dict[str, Any]:
    """The `[redis]` table of a service whose settings lie in a folder beside this one."""
    identity = f"../identities/{user}/{MAIN}"
    return {
        "url": own_url(mesh),
        "trust_roots": f"{identity}/trust_roots.pem",
        "certificate": f"{identity}/certificate.pem",
        "private_key": f"{identity}/private_key.pem",
        "user": user,
        "password_file": f"../{mesh.redis_folder.name}/{user}.password",
        "shared_key": f"../{mesh.redis_folder.name}/{VERIFIER_KEY if user == VERIFIER else SHARED_KEY}",
    }


def as_operator(mesh: Mesh) -> RedisSettings | None:
    """How the operator looks at it; None where this folder has no password for that."""
    password = mesh.redis_folder / f"{OPERATOR}.password"
    if not mesh.redis or not password.exists():
        return None
    identity = mesh.identity(OPERATOR)
    return RedisSettings(
        url=own_url(mesh),
        trust_roots=identity / "trust_roots.pem",
        certificate=identity / "certificate.pem",
        private_key=identity / "private_key.pem",
        user=OPERATOR,
        password_file=password,
        shared_key=mesh.redis_folder / SHARED_KEY,
    )


def own_url(mesh: Mesh) -> str:
    """Where services find it."""
    return f"rediss://{mesh.redis}"


def url_of_jobs(mesh: Mesh) -> str:
    """Which Redis the gateway's settings name for jobs; empty for none."""
    found: Mapping[str, Any] = tomllib.loads(mesh.settings("gateway").read_text())
    return str(found.get("redis", {}).get("url", ""))


def is_own(mesh: Mesh) -> bool:
    """Whether jobs are kept in a Redis of this folder, and not in another that the settings name."""
    configured = (mesh.redis_folder / CONFIGURATION).exists()
    return bool(mesh.redis) and configured and url_of_jobs(mesh) == own_url(mesh)


def files_read(mesh: Mesh) -> tuple[Path, ...]:
    """What Redis reads when it starts, and not again."""
    configuration = mesh.redis_folder / CONFIGURATION
    named = ("aclfile", "tls-cert-file", "tls-key-file", "tls-ca-cert-file")
    lines = (line.split(None, 1) for line in configuration.read_text().splitlines())
    paths = [line[1].strip().strip('"') for line in lines if len(line) == 2 and line[0].lower() in named]
    return (configuration, *(mesh.redis_folder / path for path in paths))


def _rules(mesh: Mesh) -> dict[str, str]:
    return {GATEWAY: jobs.rules(mesh.cluster), VERIFIER: replicas.rules(mesh.cluster), OPERATOR: _LOOKING}


def _allowed(line: str, rules: str) -> str:
    """A line of the access list, with those of the rules that it lacks."""
    there = line.split()
    return " ".join((line, *(rule for rule in rules.split() if rule not in there)))


def _new_password(mesh: Mesh, user: str) -> str:
    """Write one, in place of what there is; returns what the access list has of it."""
    password = secrets.token_urlsafe(32).encode()
    replace_private(mesh.redis_folder / f"{user}.password", password)
    return f"#{hashlib.sha256(password).hexdigest()}"


def _line_of(lines: list[str], user: str, users: Path) -> int:
    found = [number for number, line in enumerate(lines) if line.split()[:2] == ["user", user]]
    if len(found) != 1 or len(_HASH.findall(lines[found[0]])) != 1:
        raise Stop(f"{users} has no line, or several, for the user {user} with one password; change it by hand")
    return found[0]


def _configuration(mesh: Mesh) -> str:
    host, _, port = mesh.redis.rpartition(":")
    identity = f"../identities/redis/{MAIN}"
    return f"""\
# Redis of this mesh; made by 'cloister init', yours to change. Paths are relative to this file's folder.
# What each line is for, and what else can be set: docs/guides/redis.md.
bind {host}
port 0
tls-port {port}
tls-cert-file {identity}/certificate.pem
tls-key-file {identity}/private_key.pem
tls-ca-cert-file {identity}/trust_roots.pem
tls-auth-clients yes
tls-protocols TLSv1.3
aclfile {USERS}
appendonly yes
appendfsync always
save ""
maxmemory 512mb
maxmemory-policy noeviction
"""
