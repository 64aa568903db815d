"""Settings of each service with the files that they name, and an enclave's folder with a little in each part of it."""

from __future__ import annotations

from pathlib import Path

from cloister.enclave.kinds import Kind

SIGNER = "5a" * 32
TLS = """
[tls]
certificate = "tls/certificate.pem"
private_key = "tls/private_key.pem"
trust_roots = "tls/trust_roots.pem"
"""
SETTINGS = {
    "worker": f"""
cluster = "mesh.example.internal"
verifier = "localhost:7001"
provisioner = "localhost:7002"
verifier_keys = "key_set.json"
key_signers = ["{SIGNER}"]
models = ["digits"]
model_owners = ["{SIGNER}"]
models_dir = "../models"
{TLS}""",
    "verifier": f"""
cluster = "mesh.example.internal"
listen = "0.0.0.0:7001"
ca_certificate = "attested_ca.pem"
ca_private_key = "attested_ca.key"
signing_keys = "signing_keys"
key_signers = ["{SIGNER}"]
collateral = "collateral.json"
policy = "policy.toml"
state_dir = "state"
{TLS}
[redis]
url = "rediss://redis.example.internal:6379"
trust_roots = "redis/ca.pem"
certificate = "redis/client.pem"
private_key = "redis/client.key"
user = "verifier"
password_file = "redis/password"
shared_key = "redis/shared.key"
""",
    "provisioner": f"""
cluster = "mesh.example.internal"
listen = "0.0.0.0:7002"
state_dir = "state"
verifier_keys = "../verifier/signing_keys/key_set.json"
verifier_id = "spiffe://mesh.example.internal/verifier/main"
key_signers = ["{SIGNER}"]
vault.file.key_file = "root.key"
{TLS}""",
    "gateway": f"""
cluster = "mesh.example.internal"
listen = "0.0.0.0:7003"
verifier = "localhost:7001"
routing = "routing.toml"
tenants_file = "tenants/tenants.toml"

[models."digits"]
slots = 4
{TLS}""",
    "redis": """
# What docs/guides/enclave-manifests.md tells the operator to write.
tls-port 6379
tls-cert-file redis.pem
tls-key-file redis.key
tls-ca-cert-file ca.pem
aclfile users.acl
maxmemory 256mb
maxmemory-policy noeviction
""",
}
_FILES = (
    *(f"tls/{name}.pem" for name in ("certificate", "private_key", "trust_roots")),
    *("key_set.json", "attested_ca.pem", "attested_ca.key", "signing_keys/key_set.json", "signing_keys/first.key"),
    *("collateral.json", "policy.toml", "root.key", "routing.toml", "tenants/tenants.toml", "tenants/keys.json"),
    *(f"redis/{name}" for name in ("ca.pem", "client.pem", "client.key", "password", "shared.key")),
    *("redis.pem", "redis.key", "ca.pem", "state.key"),
)


def write_settings(folder: Path, kind: Kind, *, changed: str = "", to: str = "") -> Path:
    """The settings file of a kind, whose every file is there; `changed` replaces what the file says once."""
    text = SETTINGS[kind.name]
    assert text.count(changed) == 1 or not changed
    for name in _FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    (folder / "users.acl").write_text(f"user default off\nuser verifier on #{SIGNER} ~mesh:* -@all +get\n")
    file = folder / ("settings.toml" if kind.module else "redis.conf")
    file.write_text(text.replace(changed, to) if changed else text)
    return file


def write_programs(folder: Path) -> None:
    """What the other rooms put into an enclave's folder: the program, and Gramine's runtime."""
    for name in ("root/bin/python3.11", "root/lib/python3.11/os.py", "gramine/libsysdb.so", "gramine/libc.so.6"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
