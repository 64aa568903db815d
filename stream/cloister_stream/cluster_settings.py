"""Flink's own settings for a cluster that speaks TLS 1.3 with client certificates, inside and at its REST interface.

Written as Flink 2 reads them: `config.yaml` in a folder that `FLINK_CONF_DIR` names. Each line is a key and a JSON
string, which is YAML too. The file holds the password of the key stores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cloister.errors import InvalidRequest, NotFound
from cloister.rpc.files import read_private, replace_private

FILE: Final = "config.yaml"
STORES: Final = ("internal", "rest")
PASSWORD: Final = "password"  # noqa: S105  # the name of a file
TLS: Final = {
    "security.ssl.protocol": "TLSv1.3",
    "security.ssl.algorithms": "TLS_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256,TLS_CHACHA20_POLY1305_SHA256",
    "security.ssl.internal.enabled": "true",
    "security.ssl.rest.enabled": "true",
    "security.ssl.rest.authentication-enabled": "true",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """What one machine of a cluster is told.

    Attributes:
        stores: Folder of the key stores, as `cloister init` or `cloister identity flink` writes it.
        work: Folder for what its processes write; for the owner's eyes only.
        python: Interpreter of the functions, the same path on every machine.
        java_options: What Flink's classes need of this Java.
        jobmanager: Name or address of the JobManager.
        host: Name or address of this machine.
        rpc_port: Of the JobManager.
        rest_port: Of the JobManager.
        slots: Parts of jobs that a TaskManager takes.
    """

    stores: Path
    work: Path
    python: Path
    java_options: str
    jobmanager: str = "localhost"
    host: str = "localhost"
    rpc_port: int = 6123
    rest_port: int = 8081
    slots: int = 2

    def entries(self) -> dict[str, str]:
        """As Flink has them."""
        return {
            "jobmanager.rpc.address": self.jobmanager,
            "jobmanager.rpc.port": str(self.rpc_port),
            "jobmanager.bind-host": self.host,
            "jobmanager.memory.process.size": "1024m",
            "taskmanager.host": self.host,
            "taskmanager.bind-host": self.host,
            "taskmanager.memory.process.size": "1536m",
            "taskmanager.numberOfTaskSlots": str(self.slots),
            "rest.address": self.jobmanager,
            "rest.port": str(self.rest_port),
            "rest.bind-port": str(self.rest_port),
            "rest.bind-address": self.host,
            "web.submit.enable": "false",
            "heartbeat.interval": "3 s",  # two that find nobody, and a TaskManager is taken for dead
            "io.tmp.dirs": str(self.work / "tmp"),
            "env.log.dir": str(self.work / "log"),
            "env.pid.dir": str(self.work / "run"),
            "env.java.opts.all": self.java_options,
            "python.executable": str(self.python),
            "python.client.executable": str(self.python),
            **TLS,
            **_store_entries(self.stores),
        }

    def write(self, folder: Path) -> None:
        """Write `config.yaml` into `folder`; make the folders that it names.

        Raises:
            NotFound: There are no key stores.
            NotReady: Their password lies open to others.
        """
        for each in (folder, *(self.work / name for name in ("tmp", "log", "run"))):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in self.entries().items())
        replace_private(folder / FILE, f"# Made by 'cloister-stream configure'.\n{text}".encode())


@dataclass(frozen=True, slots=True)
class RestAccess:
    """What calling a cluster's REST interface takes.

    Attributes:
        address: host:port.
        store: PKCS #12.
        password: Of the store.
    """

    address: str
    store: Path
    password: str = field(repr=False)

    @classmethod
    def of(cls, folder: Path) -> Self:
        """From a `config.yaml` that `write` made."""
        found = read(folder)
        try:
            return cls(
                f"{found['rest.address']}:{found['rest.port']}",
                Path(found["security.ssl.rest.keystore"]),
                found["security.ssl.rest.keystore-password"],
            )
        except KeyError as error:
            raise _not_ours(folder) from error


def read(folder: Path) -> Mapping[str, str]:
    """The entries of a `config.yaml` that `ClusterSettings.write` made.

    Raises:
        NotFound: There is none.
        InvalidRequest: Somebody else wrote it.
    """
    path = folder / FILE
    if not path.exists():
        raise NotFound(f"{path} is not there; 'cloister-stream configure' writes it")
    pairs = (line.partition(": ") for line in read_private(path).decode().splitlines() if not line.startswith("#"))
    try:
        return {key: json.loads(value) for key, _, value in pairs}
    except ValueError as error:
        raise _not_ours(folder) from error


def _store_entries(stores: Path) -> dict[str, str]:
    missing = [name for name in STORES if not (stores / f"{name}.p12").exists()]
    if missing:
        raise NotFound(f"{stores} holds no {missing[0]}.p12; 'cloister identity flink {stores}' makes it")
    password = read_private(stores / PASSWORD).decode()
    entries: dict[str, str] = {}
    for name in STORES:
        # One certificate, self-signed: what a process shows is all that it believes.
        for use in ("keystore", "truststore"):
            entries[f"security.ssl.{name}.{use}"] = str(stores.absolute() / f"{name}.p12")
            entries[f"security.ssl.{name}.{use}-type"] = "PKCS12"
            entries[f"security.ssl.{name}.{use}-password"] = password
        entries[f"security.ssl.{name}.key-password"] = password
    return entries


def _not_ours(folder: Path) -> InvalidRequest:
    return InvalidRequest(f"{folder / FILE} is not as 'cloister-stream configure' writes it")
