"""The settings file that `cloister init` writes for each service. Paths in it are relative to the file's own folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cloister.cli import redis_files
from cloister.cli.mesh_folder import MAIN, Mesh
from cloister.kit.key_set import KeySigners

Value = str | int | float | bool | Sequence[str]

ROUTING = "routing.toml"
TENANTS = "tenants.toml"
TENANTS_TEXT = """\
# Who may ask this gateway; watched by every gateway. 'cloister tenant' writes it, and so may you.
# Until this is false, every client certificate of the mesh that no tenant lists is a tenant too, with every model.
unlisted_certificates = true
"""
VERIFIER_KEYS = "../verifier/signing_keys/key_set.json"
OWNERS_NOTE = """\
# A model is served only if its owner's public signing key is among model_owners. For a further owner, add the key that
# 'cloister identity show FOLDER' tells to the list here and start the workers anew: these settings are part of what
# their evidence says. Clients take that owner's models once their trust bundles name the key as well.
"""
IDENTITY_OF = {"verifier": "verifier", "provisioner": "provisioner", "gateway": "gateway", "worker": "enrol"}


def verifier(mesh: Mesh, *, anchor_root: str, collateral: str, policy: str, signers: KeySigners) -> str:
    """The verifier's; `anchor_root` is empty for Intel's own root, `policy` for the built-in one."""
    values: dict[str, Value] = {
        "cluster": mesh.cluster,
        "listen": mesh.verifier,
        "https_listen": mesh.verifier_https,
        "ca_certificate": "attested_ca.pem",
        "ca_private_key": "attested_ca.key",
        "signing_keys": "signing_keys",
        **_signers(signers),
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
    return head + _lines({"policy_id": "founded", "version": 1}) + "".join(rows)


def provisioner(mesh: Mesh, *, verifier_id: str, signers: KeySigners) -> str:
    """The provisioner's; `signers` say which keys are the verifier's."""
    values: dict[str, Value] = {
        "cluster": mesh.cluster,
        "listen": mesh.provisioners["provisioner"],  # those after it are told theirs when they are started
        "state_dir": "state",
        "verifier_keys": VERIFIER_KEYS,
        **_signers(signers),
        "verifier": mesh.verifier,
        "verifier_id": verifier_id,
        "log_json": True,
    }
    vault = f"\n[vault.file]\n{_lines({'key_file': 'root.key'})}"
    return _text("provisioner", values) + vault


def gateway(mesh: Mesh) -> str:
    """The gateway's."""
    values: dict[str, Value] = {
        "cluster": mesh.cluster,
        "name": MAIN,
        "listen": mesh.gateway,
        "verifier": mesh.verifier,
        "routing": ROUTING,
        "tenants_file": TENANTS,
        "log_json": True,
    }
    if mesh.gateway_https:
        values["rest_listen"] = mesh.gateway_https
    if mesh.simulated:
        values["simulated_workers"] = True
    return _text("gateway", values) + (redis_of(mesh, "gateway") if mesh.redis else "")


def redis_of(mesh: Mesh, service: str) -> str:
    """The table that says how a service comes to the mesh's own Redis; goes to the end of its settings."""
    return f"\n[redis]\n{_lines(redis_files.settings_values(mesh, service))}"


def worker(mesh: Mesh, *, models: Sequence[str], owners: Sequence[str], signers: KeySigners) -> str:
    """The workers'; each process is given its own port by 'cloister up'. `owners` are public signing keys in hex."""
    values: dict[str, Value] = {
        "cluster": mesh.cluster,
        "verifier": mesh.verifier,
        "provisioner": mesh.provisioner,
        "verifier_keys": VERIFIER_KEYS,
        **_signers(signers),
        "models": tuple(models),
        "model_owners": tuple(owners),
        "models_dir": "../models",
        "log_json": True,
    }
    return _text("worker", values, OWNERS_NOTE)


def _signers(signers: KeySigners) -> Mapping[str, Value]:
    return {"key_signers": tuple(sorted(signers.keys)), "key_threshold": signers.threshold}


def _text(service: str, values: Mapping[str, Value], note: str = "") -> str:
    identity = f"../identities/{IDENTITY_OF[service]}/{MAIN}"
    tls = {
        "certificate": f"{identity}/certificate.pem",
        "private_key": f"{identity}/private_key.pem",
        "trust_roots": f"{identity}/trust_roots.pem",
    }
    head = f"# Settings of cloister-{service}; made by 'cloister init', yours to change."
    return f"{head}\n{note}{_lines(values)}\n[tls]\n{_lines(tls)}"


def _lines(values: Mapping[str, Value]) -> str:
    # JSON's strings, numbers, booleans and arrays of strings are also TOML's.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
