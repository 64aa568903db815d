"""An enclave's folder with a manifest that breaks no rule, for tests that break one thing in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import tomlkit

from cloister.enclave.kinds import EnclaveSet, Kind
from cloister.kit.environment import TLS_ENVIRONMENT

FILES = {
    "gramine/libsysdb.so": b"\x7fELF the library OS",
    "gramine/libc.so.6": b"\x7fELF libc",
    "root/bin/python3.11": b"\x7fELF python",
    "root/bin/redis-server": b"\x7fELF redis",
    "root/lib/python3.11/encodings/__init__.pyc": b"\xa7\x0d\x0d\x0a",
    "root/lib/python3.11/structlog/testing.py": b"",
    "mesh/settings.toml": b'cluster = "ward"\n',
    "mesh/policy": b'policy_id = "ward"\nversion = 1\n[[reference_values]]\nmrenclave = "aa"\n',
    "mesh/tls.trust_roots": b"-----BEGIN CERTIFICATE-----\nnot one\n-----END CERTIFICATE-----\n",
}
HOST = {"host/verifier_keys": b"{}", "host/models_dir/m/1/model.sealed": b"CLOISTER sealed"}


class LintedEnclave:
    """The folder and what its manifest is to say; `table` may be changed before `write`."""

    def __init__(self, folder: Path, kind: Kind, enclave_set: EnclaveSet = EnclaveSet.HARDENED) -> None:
        self.folder = folder
        self.kind = kind
        self.enclave_set = enclave_set
        self.reasons: dict[str, str] = {}
        for name, content in {**FILES, **HOST}.items():
            self.place(name, content)
        for name in ("sealed", "state"):
            (folder / "host" / name).mkdir(parents=True)
        self.table = _table(kind, enclave_set)
        for name, content in FILES.items():
            self.trust(name, content)
        if enclave_set is EnclaveSet.SIMULATED:
            self.table["fs"]["insecure__keys"] = {"simulated": "00" * 16}
            self.reasons["fs.insecure__keys"] = "gramine-direct has no key for sealing"

    def place(self, name: str, content: bytes) -> Path:
        """Put a file into the folder, and not into the manifest."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def trust(self, name: str, content: bytes) -> None:
        """Put a file into the folder, and measure it."""
        self.place(name, content)
        entry = {"uri": f"file:{name}", "sha256": hashlib.sha256(content).hexdigest()}
        files = self.table["sgx"]["trusted_files"]
        files[:] = [each for each in files if each["uri"] != entry["uri"]] + [entry]

    def allow(self, uri: str) -> None:
        """Let the host change it."""
        self.table["sgx"]["allowed_files"].append(uri)

    def mount(self, **entry: str) -> None:
        """Mount something after all else."""
        self.table["fs"]["mounts"].append(entry)

    def write(self, form: str = ".manifest") -> Path:
        """The manifest, and the reasons beside it if there are any."""
        path = self.folder / f"{self.kind.name}{form}"
        path.write_text(tomlkit.dumps(self.table))
        if self.reasons:
            lines = (f"{json.dumps(key)} = {json.dumps(why)}\n" for key, why in self.reasons.items())
            (self.folder / f"{self.kind.name}.reasons.toml").write_text("".join(lines))
        return path


def _table(kind: Kind, enclave_set: EnclaveSet) -> dict[str, Any]:
    program = "/cloister/root/bin/" + ("python3.11" if kind.module else "redis-server")
    python = ["-I", "-S", "-B", "-m", kind.module, "--settings", "/cloister/mesh/settings.toml"]
    simulated = enclave_set is EnclaveSet.SIMULATED
    return {
        "libos": {"entrypoint": program, "check_invalid_pointers": True},
        "loader": {
            "entrypoint": {
                "uri": "file:gramine/libsysdb.so",
                "sha256": hashlib.sha256(FILES["gramine/libsysdb.so"]).hexdigest(),
            },
            "argv": [program, *(python if kind.module else ["/cloister/mesh/redis.conf"])],
            "log_level": "error",
            "env": {
                "CLOISTER_ENCLAVE": f"{kind.name} {enclave_set}",
                "HOME": "/tmp",
                "LC_ALL": "C.UTF-8",
                "LD_LIBRARY_PATH": "/lib:/cloister/root/lib/system",
                **(TLS_ENVIRONMENT if kind.module else {}),
                **{name: {"passthrough": True} for name in kind.host_chosen},
            },
        },
        "fs": {
            "root": {"type": "tmpfs"},
            "mounts": [
                {"path": "/lib", "uri": "file:gramine"},
                {"path": "/cloister/root", "uri": "file:root"},
                {"path": "/cloister/mesh", "uri": "file:mesh"},
                {"path": "/cloister/host/models_dir", "uri": "file:host/models_dir"},
                _encrypted("sealed", "simulated" if simulated else "_sgx_mrsigner"),
                _encrypted("state", "state" if kind.module and kind.state else "_sgx_mrsigner"),
                {"type": "tmpfs", "path": "/tmp"},
                {"type": "tmpfs", "path": "/dev/shm"},
                *([{"path": "/dev/attestation", "uri": "file:host/attestation"}] if simulated else []),
            ],
        },
        "sys": {"disallow_subprocesses": True, "enable_sigterm_injection": True, "stack": {"size": "2M"}},
        "sgx": {
            "debug": enclave_set is EnclaveSet.DEBUG,
            "remote_attestation": "dcap",
            "isvprodid": kind.product_in(enclave_set),
            "isvsvn": 1,
            "enclave_size": "1G",
            "max_threads": 64,
            "use_exinfo": False,
            "allowed_files": ["file:host/verifier_keys", "file:host/models_dir/"],
            "trusted_files": [],
        },
    }


def _encrypted(name: str, key_name: str) -> dict[str, str]:
    return {"type": "encrypted", "path": f"/cloister/{name}", "uri": f"file:host/{name}", "key_name": key_name}
