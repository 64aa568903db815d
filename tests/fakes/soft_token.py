"""A PKCS#11 token in software: SoftHSM2, the real library, with a token of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PIN = "481516"
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/lib/pkcs11/libsofthsm2.so")


@dataclass(frozen=True)
class SoftToken:
    """One token, whose library finds it through SOFTHSM2_CONF."""

    module: str
    pin_file: Path

    def uri(self, label: str, **others: str) -> str:
        """How a key in it is named; `others` are put in place of what is right."""
        access = {"module-path": self.module, "pin-source": f"file:{self.pin_file}"} | {
            name.replace("_", "-"): value for name, value in others.items() if name != "token"
        }
        query = "&".join(f"{name}={value}" for name, value in access.items())
        return f"pkcs11:token={others.get('token', 'cloister')};object={label}?{query}"

    def take(self, key: Path, label: str, number: str) -> None:
        """Import an unencrypted PKCS#8 key."""
        _softhsm("--import", str(key), "--token", "cloister", "--label", label, "--id", number, "--pin", PIN)


def soft_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    """A new token; skips the test where SoftHSM2 is not installed, and says so."""
    module = next(filter(os.path.exists, _MODULES), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM2 is not installed: 'apt-get install softhsm2'")
    (folder / "tokens").mkdir()
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(conf))
    _softhsm("--init-token", "--free", "--label", "cloister", "--pin", PIN, "--so-pin", PIN)
    pin_file = folder / "pin"
    pin_file.write_text(f"{PIN}\n")
    pin_file.chmod(0o600)
    return SoftToken(module, pin_file)


def _softhsm(*words: str) -> None:
    subprocess.run(["softhsm2-util", *words], check=True, capture_output=True, timeout=30)
