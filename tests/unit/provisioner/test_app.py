"""What the provisioner refuses to start with; nothing here gets as far as a socket."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloister.ear import SigningKey
from cloister.errors import InvalidRequest
from cloister.kit.audit import AuditLog
from cloister.kit.config import load
from cloister.provisioner.ledger.database import NAME
from cloister.provisioner.settings import Settings
from fakes.pki import MeshPki
from fakes.running_services import key_file, key_file_vault, private_file, provisioner_settings, why_not


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return provisioner_settings(tmp_path, MeshPki(), SigningKey.generate())


async def test_a_root_key_that_others_can_read(settings: Settings) -> None:
    key_file(settings).chmod(0o640)
    said = await why_not(settings)
    assert said.startswith(f"the root key is not usable: {key_file(settings)} is open to other users")


async def test_a_root_key_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    assert "cannot be read" in await why_not(replace(settings, vault=key_file_vault(tmp_path / "missing")))


async def test_a_root_key_of_another_length(settings: Settings) -> None:
    private_file(key_file(settings), b"short")
    assert "not 32 bytes" in await why_not(settings)


@pytest.mark.parametrize("text", ["", "{}", '{"keys": []}', "[1]"])
async def test_a_key_set_that_is_none(settings: Settings, text: str) -> None:
    settings.verifier_keys.write_text(text)
    assert "verifier_keys" in await why_not(settings)


async def test_a_key_set_that_holds_no_pinned_key(settings: Settings) -> None:
    assert "no key to be trusted" in await why_not(replace(settings, verifier_thumbprints=("A" * 43,)))


async def test_a_state_folder_that_others_can_read(settings: Settings) -> None:
    settings.state_dir.mkdir(mode=0o750)
    assert "chmod 700" in await why_not(settings)


async def test_a_store_that_others_can_read(settings: Settings) -> None:
    settings.state_dir.mkdir(mode=0o700)
    (settings.state_dir / NAME).touch(mode=0o644)
    (settings.state_dir / NAME).chmod(0o644)
    assert "0600" in await why_not(settings)


_TOML = """
cluster = "demo.cloister.internal"
listen = "127.0.0.1:0"
state_dir = "state"
vault.file.key_file = "root.key"
verifier_keys = "jwks.json"
verifier_thumbprints = {thumbprints}
verifier_id = "{verifier}"
{extra}
[tls]
certificate = "c.pem"
private_key = "k.pem"
trust_roots = "r.pem"
"""
_VERIFIER = "spiffe://demo.cloister.internal/verifier/main"


def loaded(
    folder: Path, *, verifier: str = _VERIFIER, thumbprints: tuple[str, ...] = ("A" * 43,), extra: str = ""
) -> Settings:
    text = _TOML.format(verifier=verifier, thumbprints=json.dumps(thumbprints), extra=extra)
    (folder / "settings.toml").write_text(text)
    return load(Settings, folder / "settings.toml", {}, prefix="CLOISTER_PROVISIONER_")


def test_settings_load(tmp_path: Path) -> None:
    assert loaded(tmp_path).vault == key_file_vault(tmp_path / "root.key")


@pytest.mark.parametrize(
    "verifier",
    [
        "verifier",
        "spiffe://other.cloister.internal/verifier/main",
        "spiffe://demo.cloister.internal/gateway/main",
    ],
)
def test_the_verifier_is_one_of_this_cluster(tmp_path: Path, verifier: str) -> None:
    with pytest.raises(InvalidRequest):
        loaded(tmp_path, verifier=verifier)


@pytest.mark.parametrize("thumbprints", [(), ("",), ("A" * 42,), ("A" * 43, "A" * 42 + "=")])
def test_keys_of_the_verifier_are_pinned(tmp_path: Path, thumbprints: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest, match="verifier_thumbprints"):
        loaded(tmp_path, thumbprints=thumbprints)


@pytest.mark.parametrize(
    "extra",
    [
        "releases_per_minute = 0",
        "grace_s = -1",
        "epoch_s = 60",
        "job_life_s = 604801",
        'epoch_suite = "p256"',
        'root_key = "root.key"',
    ],
)
def test_settings_that_cannot_be_meant(tmp_path: Path, extra: str) -> None:
    with pytest.raises(InvalidRequest, match=extra.split()[0]):
        loaded(tmp_path, extra=extra)


@pytest.mark.attack("I03")
async def test_a_clock_that_was_set_back_before_the_start(settings: Settings) -> None:
    """Or a result that was never used could be presented again, by a worker that was stopped meanwhile."""
    settings.state_dir.mkdir(mode=0o700)
    with AuditLog.opened(settings.state_dir / "audit.db", now=lambda: datetime.now(UTC) + timedelta(hours=1)) as audit:
        audit.append("key.released")
    assert "before what our own record tells of" in await why_not(settings)
    settings = replace(settings, clock_was_ahead=True, listen="nowhere:0")
    assert "cannot listen" in await why_not(settings)
