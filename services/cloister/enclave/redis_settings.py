"""redis.conf as it is in an enclave: for strangers closed, in one process, with its data in the encrypted state."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from cloister.enclave.kinds import INSIDE, Kind, Place
from cloister.enclave.service_settings import Rewritten, absolute
from cloister.errors import InvalidRequest
from cloister.kit.config import settings_error

SETTINGS: Final = "redis.conf"
_MAX_BYTES: Final = 1 << 20
# What must hold, and what an operator therefore need not write. Snapshots, and rewriting the append-only file, would
# fork: an enclave cannot.
_FIXED: Final = {
    "port": "0",
    "tls-auth-clients": "yes",
    "tls-protocols": "TLSv1.3",
    "daemonize": "no",
    "save": "",
    "appendonly": "yes",
    "auto-aof-rewrite-percentage": "0",
    "enable-debug-command": "no",
    "enable-module-command": "no",
}
_KEPT: Final = (
    *("bind", "tls-port", "tls-ciphersuites", "protected-mode", "timeout", "tcp-keepalive", "tcp-backlog"),
    *("maxclients", "maxmemory", "maxmemory-policy", "client-output-buffer-limit"),
    *("appendfsync", "databases", "loglevel", "slowlog-max-len"),
)


def rewritten(kind: Kind, settings_file: Path) -> Rewritten:
    """Read a redis.conf, and say what it is in an enclave.

    Raises:
        InvalidRequest: It cannot be read, or says what Redis in an enclave must not or cannot do
            (`settings.invalid`).
    """
    said = dict(_lines(settings_file))
    named = (*kind.measured, *kind.host, *kind.state)
    missing = [name for name in (*kind.measured, *kind.host, "tls-port") if name not in said]
    if missing:
        raise settings_error(str(settings_file), f"{missing[0]} is missing")
    for name, value in said.items():
        if name in _FIXED and value.strip('"') != _FIXED[name]:
            raise settings_error(name, f"must be {_FIXED[name] or 'empty'} in an enclave")
        if name not in _KEPT and name not in _FIXED and name not in named:
            raise settings_error(name, "is not for Redis in an enclave; leave it out")
    said.setdefault("dir", ".")
    files = {
        name: (kind.place_of(name, key_signers=False), absolute(settings_file.parent / shlex.split(said[name])[0]))
        for name in named
    }
    kept = {name: value for name, value in said.items() if name in _KEPT}
    inside = {name: f"{INSIDE}/{place}/{name}" for name, (place, _) in files.items()}
    inside["dir"] = f"{INSIDE}/{Place.STATE}"  # itself: Redis makes no folder for its data
    _check_users(files["aclfile"][1])
    lines = {**kept, **_FIXED, **inside}
    text = "".join(f"{name} {lines[name] or chr(34) * 2}\n" for name in sorted(lines))
    return Rewritten(SETTINGS, text.encode(), files)


def _lines(file: Path) -> list[tuple[str, str]]:
    try:
        text = file.read_bytes()[:_MAX_BYTES].decode()
    except (OSError, UnicodeDecodeError) as error:
        raise settings_error(str(file), "cannot be read") from error
    split = [line.strip().partition(" ") for line in text.splitlines()]
    found = [(name.lower(), value.strip()) for name, _, value in split if name and not name.startswith("#")]
    twice = [name for name, _ in found if [other for other, _ in found].count(name) > 1]
    if twice:
        raise settings_error(twice[0], "stands there twice")
    return found


def _check_users(file: Path) -> None:
    """The access list is measured, so what it lets strangers do is known here."""
    try:
        words = [line.split() for line in file.read_text().splitlines()]
    except OSError as error:
        raise InvalidRequest(f"aclfile {file} cannot be read: {error.strerror}") from error
    default = [line for line in words if line[:2] == ["user", "default"]]
    said = {word.lower() for line in default for word in line[2:]}  # Redis takes ON for on
    if len(default) != 1 or "off" not in said or "on" in said:
        raise settings_error("aclfile", "must say `user default off`: whoever comes without a password is served else")
    if any(word.startswith(">") for line in words for word in line):
        raise settings_error("aclfile", "holds a password; write '#' and its SHA-256 instead")
