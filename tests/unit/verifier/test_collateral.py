from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.errors import NotReady
from cloister.verifier.collateral import CollateralFile
from cloister_simulator.platform import Platform
from cloister_simulator.recipe import Window
from fakes.sim import simulated_platform

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=2)


@dataclass
class Held:
    """A platform's collateral in a file that a verifier watches."""

    folder: Path
    platform: Platform
    file: CollateralFile

    def publish(self, raw: bytes | None = None) -> bytes:
        staged = self.folder / "collateral.new"
        staged.write_bytes(self.platform.collateral() if raw is None else raw)
        staged.rename(self.folder / "collateral.json")
        return (self.folder / "collateral.json").read_bytes()

    def opened(self) -> CollateralFile:
        anchor = TrustAnchor("simulated", self.platform.root_der())
        return CollateralFile(self.folder / "collateral.json", anchor, memory=self.folder / "seen.json")


@pytest.fixture
def held(tmp_path: Path) -> Held:
    platform = simulated_platform(NOW)
    (tmp_path / "collateral.json").write_bytes(platform.collateral())
    made = Held(tmp_path, platform, None)  # type: ignore[arg-type]  # set at once
    made.file = made.opened()
    return made


def test_the_exact_bytes_are_kept_for_clients(held: Held) -> None:
    assert held.file.current(NOW).raw == (held.folder / "collateral.json").read_bytes()


def test_new_collateral_is_taken_when_the_file_changes(held: Held) -> None:
    held.file.current(NOW)
    held.platform.reissue(LATER)
    raw = held.publish()
    assert held.file.current(LATER).raw == raw


def _older_evaluation(platform: Platform) -> None:
    platform.reissue(LATER)
    platform.tcb_evaluation -= 1


def _older_identity(platform: Platform) -> None:
    platform.reissue(LATER)
    platform.qe_identity_evaluation = 1


def _older_tcb_info(platform: Platform) -> None:
    past = platform.window
    platform.reissue(LATER)
    platform.tcb_info_window = Window(issued_at=past.issued_at - timedelta(hours=1), next_update=past.next_update)


def _older_crl(platform: Platform) -> None:
    past = platform.window
    platform.reissue(LATER)
    platform.pck_crl_window = Window(issued_at=past.issued_at - timedelta(hours=1), next_update=past.next_update)


def _older_root_crl(platform: Platform) -> None:
    past = platform.window
    platform.reissue(LATER)
    platform.root_crl_window = Window(issued_at=past.issued_at - timedelta(hours=1), next_update=past.next_update)


@pytest.mark.parametrize(
    "older",
    [_older_evaluation, _older_identity, _older_tcb_info, _older_crl, _older_root_crl],
    ids=lambda older: older.__name__,
)
def test_nothing_in_it_goes_back(held: Held, older: Callable[[Platform], None]) -> None:
    kept = held.file.current(NOW)
    older(held.platform)
    held.publish()
    with capture_logs() as logs:
        assert held.file.current(LATER) is kept
    assert [entry["event"] for entry in logs] == ["collateral.refused"]


def test_what_was_seen_is_remembered_past_a_restart(held: Held) -> None:
    old = (held.folder / "collateral.json").read_bytes()
    held.platform.reissue(LATER)
    held.publish()
    held.file.current(LATER)
    held.publish(old)
    with pytest.raises(NotReady) as refused:
        held.opened().current(LATER)
    assert refused.value.reason == "collateral.rolled_back"
    assert (held.folder / "seen.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("raw", [b"", b"{}", b"<html>", b"\xff" * 2_000_000], ids=["empty", "object", "html", "huge"])
def test_a_broken_file_changes_nothing(held: Held, raw: bytes) -> None:
    kept = held.file.current(NOW)
    held.publish(raw)
    with capture_logs() as logs:
        assert held.file.current(NOW) is kept
        assert held.file.current(NOW) is kept
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("collateral.refused", "error")]


def test_a_file_that_is_gone_changes_nothing(held: Held) -> None:
    kept = held.file.current(NOW)
    (held.folder / "collateral.json").unlink()
    assert held.file.current(NOW) is kept


def test_expired_collateral_is_refused_and_said_loudly(held: Held) -> None:
    held.file.current(NOW)
    end = NOW + timedelta(days=31)
    with pytest.raises(NotReady) as refused:
        held.file.current(end)
    assert refused.value.reason == "collateral.expired"
    with capture_logs() as logs:
        assert held.file.report(end) is None
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("collateral.unusable", "error")]


def test_fresh_collateral_ends_an_expiry(held: Held) -> None:
    end = NOW + timedelta(days=31)
    with pytest.raises(NotReady):
        held.file.current(end)
    held.platform.reissue(end)
    held.publish()
    held.file.current(end)


def test_the_end_is_announced_ten_days_ahead(held: Held) -> None:
    with capture_logs() as logs:
        assert held.file.report(NOW) is not None
        assert logs == []
        held.file.report(NOW + timedelta(days=21))
    assert [entry["event"] for entry in logs] == ["collateral.expiring"]


def test_collateral_under_another_root_is_never_in_force(held: Held) -> None:
    file = CollateralFile(held.folder / "collateral.json", INTEL_SGX, memory=held.folder / "other.json")
    with pytest.raises(NotReady):
        file.current(NOW)


def test_a_verifier_does_not_start_without_collateral(tmp_path: Path, held: Held) -> None:
    with pytest.raises(NotReady, match="collateral"):
        CollateralFile(tmp_path / "missing.json", INTEL_SGX, memory=tmp_path / "seen.json")
    held.publish(b"{}")
    with pytest.raises(NotReady, match="collateral"):
        held.opened()


@pytest.mark.parametrize("memory", [b"", b"[]", b'{"a": "b"}', b'{"a": ["b"]}'])
def test_a_memory_that_cannot_be_read_is_not_taken_for_an_empty_one(held: Held, memory: bytes) -> None:
    (held.folder / "seen.json").write_bytes(memory)
    with pytest.raises(NotReady, match="remove it to begin again"):
        held.opened()


def test_the_memory_names_what_it_remembers(held: Held) -> None:
    held.file.current(NOW)
    seen = json.loads((held.folder / "seen.json").read_bytes())
    assert sorted(name.split()[1] for name in seen) == ["crl", "crl", "qe_identity", "tcb_info"]
