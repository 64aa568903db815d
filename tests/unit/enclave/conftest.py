"""One signing key for all tests, since making one takes a second; and no Gramine, which these tests do without."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.enclave.signers import KeySigner, new_key


@pytest.fixture(scope="session")
def signer() -> KeySigner:
    """Who signs for production."""
    return new_key()


@pytest.fixture(autouse=True)
def _no_gramine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("path")))


@pytest.fixture
def key_file(signer: KeySigner, tmp_path: Path) -> Path:
    """The signer's key in PEM."""
    path = tmp_path / "signer.pem"
    path.write_bytes(signer.private_pem())
    path.chmod(0o600)
    return path
