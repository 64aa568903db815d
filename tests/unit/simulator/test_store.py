"""A platform kept in a folder is the same platform tomorrow, and its keys are nobody else's."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloister.errors import AlreadyExists, InvalidRequest, NotFound
from cloister_simulator import store
from cloister_simulator.platform import Platform
from fakes.sim import library_verdict

NOW = datetime(2026, 11, 22, 12, 30, 15, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store.create(tmp_path / "sim", NOW)
    return tmp_path / "sim"


def test_quotes_made_after_a_restart_are_good_under_the_files(folder: Path) -> None:
    platform = store.load(folder, NOW)
    assert platform.root_der() == (folder / "root.der").read_bytes()
    verdict = library_verdict(platform, collateral=(folder / "collateral.json").read_bytes(), now=NOW)
    assert verdict == ("UpToDate", [])


def test_keys_are_readable_by_their_owner_only(folder: Path) -> None:
    keys = sorted((folder / "keys").iterdir())
    assert [key.name for key in keys] == [
        "attestation.pem",
        "pck.pem",
        "platform_ca.pem",
        "root.pem",
        "tcb_signing.pem",
    ]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE((folder / "keys").stat().st_mode) == 0o700


def test_a_key_that_others_can_read_is_refused(folder: Path) -> None:
    (folder / "keys" / "pck.pem").chmod(0o640)
    with pytest.raises(InvalidRequest, match=r"pck\.pem can be read by others"):
        store.load(folder, NOW)


def test_collateral_is_issued_again_in_one_step(folder: Path) -> None:
    later = NOW + timedelta(days=40)
    platform = store.load(folder, later)
    with pytest.raises(ValueError, match=r"(?i)expired"):
        library_verdict(platform, collateral=(folder / "collateral.json").read_bytes(), now=later)
    store.write_collateral(folder, platform)
    assert library_verdict(platform, collateral=(folder / "collateral.json").read_bytes(), now=later)[0] == "UpToDate"
    kept = ["collateral-tdx.json", "collateral.json", "keys", "platform.json", "root.der"]
    assert sorted(each.name for each in folder.iterdir()) == kept


def test_a_platform_is_never_overwritten(folder: Path) -> None:
    before = (folder / "root.der").read_bytes()
    with pytest.raises(AlreadyExists):
        store.create(folder, NOW)
    assert (folder / "root.der").read_bytes() == before


def test_an_empty_folder_is_not_a_platform(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cloister-simulator init"):
        store.load(tmp_path, NOW)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("platform.json", "{}"),
        ("platform.json", "[1]"),
        ("platform.json", "not json"),
        ("platform.json", json.dumps({"ppid": "zz", "platform_instance_id": ""})),
        ("keys/attestation.pem", "no key"),
    ],
)
def test_a_damaged_platform_is_refused(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(InvalidRequest, match="not a whole simulated platform"):
        store.load(folder, NOW)


def test_a_missing_key_is_refused(folder: Path) -> None:
    (folder / "keys" / "root.pem").unlink()
    with pytest.raises(InvalidRequest, match="not a whole simulated platform"):
        store.load(folder, NOW)


def test_the_root_of_another_platform_is_refused(folder: Path) -> None:
    (folder / "root.der").write_bytes(Platform.generate(NOW).root_der())
    with pytest.raises(InvalidRequest, match="does not belong"):
        store.load(folder, NOW)
