"""The settings file that `cloister init` writes for each service. Paths in it are relative to the file's own folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cloister.cli.mesh_folder import MAIN, Mesh

Value = str | int | float | bool | Sequence[str]

IDENTITY_OF = {"verifier": "verifier", "provisioner": "provisioner", "gateway": "gateway", "worker": "enrol"}


def verifier(mesh: Mesh, *, anchor_root: str, collateral: str, policy: str) -> str:
    """The verifier's; `anchor_root` is empty for Intel's own root, `policy` for the built-in one."""
    values: dict[str, Value] = {
        "cluster": mesh.cluster,
        "listen": mesh.verifier,
        "ca_certificate": "attested_ca.pem",
        "ca_private_key": "attested_ca.key",
        "signing_key": "ear_signing.key",
        "collateral": collateral,
        "state_dir": "state",
        "log_json": True,
    }
    if anchor_root:
        values["anchor_root"] = anchor_root
    if policy:
        values["policy"] = policy
    return _text("verifier", values)


def appraisal_policy(mrenclave: Sequence[str]) -> str:
    """The verifier's appraisal policy: the default one, for workers of these measurements only."""
    head = "# Appraisal policy of cloister-verifier; made by 'cloister init', yours to change.\n"
    rows = [f"\n[[reference_values]]\n{_lines({'mrenclave': each})}" for each in mrenclave]
    return head + _lines({"policy_id": "founded"}) + "".join(rows)


def provisioner(mesh: Mesh, *, verifier_id: str) -> str:
    """The provisioner's."""
    values: dict[str, Value] = {
        "cluster": mesh.cluster,
        "listen": mesh.provisioner,
        "state_dir": "state",
        "root_key": "root.key",
        "verifier_keys": "../verifier/jwks.json",
        "verifier_id": verifier_id,
        "log_json": True,
    }
    return _text("provisioner", values)


def gateway(mesh: Mesh) -> str:
    """The gateway's."""
    values: dict[str, Value] = {
        "cluster": mesh.cluster,
        "name": MAIN,
        "listen": mesh.gateway,
        "verifier": mesh.verifier,
        "log_json": True,
    }
    return _text("gateway", values)


def worker(mesh: Mesh, *, models: Sequence[str]) -> str:
    """The workers'; each process is given its own port by 'cloister up'."""
    values: dict[str, Value] = {
        "cluster": mesh.cluster,
        "verifier": mesh.verifier,
        "provisioner": mesh.provisioner,
        "models": tuple(models),
        "models_dir": "../models",
        "log_json": True,
    }
    return _text("worker", values)


def _text(service: str, values: Mapping[str, Value]) -> str:
    identity = f"../identities/{IDENTITY_OF[service]}/{MAIN}"
    tls = {
        "certificate": f"{identity}/certificate.pem",
        "private_key": f"{identity}/private_key.pem",
        "trust_roots": f"{identity}/trust_roots.pem",
    }
    head = f"# Settings of cloister-{service}; made by 'cloister init', yours to change."
    return f"{head}\n{_lines(values)}\n[tls]\n{_lines(tls)}"


def _lines(values: Mapping[str, Value]) -> str:
    # JSON's strings, numbers, booleans and arrays of strings are also TOML's.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
