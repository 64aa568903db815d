"""The two files that a provisioner of version 0.4 kept its state in."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from cloister.kit.audit import AuditLog
from cloister.provisioner.models.epoch_store import StoredEpoch
from cloister.provisioner.models.stored import StoredModel
from fakes.stored import POLICY

_MODELS = """
CREATE TABLE model (name TEXT PRIMARY KEY, owner TEXT NOT NULL, owner_key BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE model_version (
    name TEXT NOT NULL REFERENCES model (name), version INTEGER NOT NULL CHECK (version > 0),
    manifest BLOB NOT NULL, signature BLOB NOT NULL, wrapped_key BLOB NOT NULL, root_key_id TEXT NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE policy (
    name TEXT NOT NULL REFERENCES model (name), version INTEGER NOT NULL CHECK (version > 0),
    policy BLOB NOT NULL, signature BLOB NOT NULL, PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
"""
_EPOCHS = """
CREATE TABLE epoch_count (
    name TEXT PRIMARY KEY REFERENCES model (name), begun INTEGER NOT NULL CHECK (begun > 0)
) STRICT, WITHOUT ROWID;
CREATE TABLE epoch (
    name TEXT NOT NULL REFERENCES model (name), number INTEGER NOT NULL CHECK (number > 0), suite TEXT NOT NULL,
    began_ms INTEGER NOT NULL CHECK (began_ms > 0), seal_until_ms INTEGER NOT NULL CHECK (seal_until_ms > 0),
    open_until_ms INTEGER NOT NULL CHECK (open_until_ms > 0), policy BLOB NOT NULL, signature BLOB NOT NULL,
    wrapped_seed BLOB NOT NULL, root_key_id TEXT NOT NULL, PRIMARY KEY (name, number)
) STRICT, WITHOUT ROWID;
"""


def write_earlier(folder: Path, model: StoredModel, epoch: StoredEpoch | None = None) -> None:
    """What it left: a model, a policy and perhaps an epoch, and three lines."""
    name, root_key_id = model.name, model.root_key_id
    with closing(sqlite3.connect(folder / "models.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_MODELS + (_EPOCHS if epoch is not None else ""))
        connection.execute("INSERT INTO model VALUES (?, ?, ?)", (name, model.owner.spiffe_id, model.owner.key))
        version = (name, model.version, model.manifest, model.signature, model.wrapped_key, root_key_id)
        connection.execute("INSERT INTO model_version VALUES (?, ?, ?, ?, ?, ?)", version)
        connection.execute("INSERT INTO policy VALUES (?, 1, ?, ?)", (name, POLICY.policy, POLICY.signature))
        if epoch is not None:
            connection.execute("INSERT INTO epoch_count VALUES (?, ?)", (name, epoch.number))
            times = (epoch.began_ms, epoch.seal_until_ms, epoch.open_until_ms)
            kept = (epoch.policy, epoch.signature, epoch.wrapped_seed, epoch.root_key_id)
            connection.execute(
                "INSERT INTO epoch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (name, epoch.number, epoch.suite, *times, *kept),
            )
        connection.commit()
    with AuditLog.opened(folder / "audit.db") as audit:
        for event in ("model.registered", "policy.set", "key.released"):
            audit.append(event, model=name)
