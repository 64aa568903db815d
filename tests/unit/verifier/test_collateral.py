from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from cloister.appraisal.anchors import INTEL_SGX
from cloister.appraisal.family import Family
from cloister.errors import EvidenceRejected, NotReady, Unavailable
from cloister.verifier.collateral import CollateralStore
from cloister.verifier.collateral_files import CollateralInFile
from cloister.verifier.collateral_memory import FileMemory
from cloister_simulator.platform import Platform
from cloister_simulator.recipe import Window
from fakes.held_collateral import HeldCollateral, bundle, family_of, other_family, quote_of
from fakes.hostile_files import written_unseen
from fakes.sim import simulated_platform

HOURS = timedelta(hours=2)
DAYS_31 = timedelta(days=31)


def why_not(held: HeldCollateral, now: datetime, platform: Platform | None = None) -> str:
    with pytest.raises(NotReady) as refused:
        held.current(now, platform)
    return refused.value.reason


# One family in one file


def test_the_exact_bytes_are_kept_for_clients(held: HeldCollateral, now: datetime) -> None:
    assert held.current(now).raw == held.path.read_bytes()


def test_new_collateral_is_taken_when_the_file_changes(held: HeldCollateral, now: datetime) -> None:
    held.current(now)
    held.platform.reissue(now + HOURS)
    raw = held.publish()
    assert held.current(now + HOURS).raw == raw


@pytest.mark.attack("I01")
def test_new_collateral_is_taken_where_stat_shows_no_change(held: HeldCollateral, now: datetime) -> None:
    size_bytes = len(held.platform.collateral()) + 4096
    written_unseen(held.path, held.platform.collateral(), size_bytes)
    before = held.current(now)
    held.platform.reissue(now + HOURS)
    written_unseen(held.path, held.platform.collateral(), size_bytes)
    assert held.current(now + HOURS).verified.valid_from > before.verified.valid_from


def _older_evaluation(platform: Platform, later: datetime) -> None:
    platform.reissue(later)
    platform.tcb_evaluation -= 1


def _older_identity(platform: Platform, later: datetime) -> None:
    platform.reissue(later)
    platform.qe_identity_evaluation = 1


def _older(platform: Platform, later: datetime) -> Window:
    past = platform.window
    platform.reissue(later)
    return Window(issued_at=past.issued_at - timedelta(hours=1), next_update=past.next_update)


def _older_tcb_info(platform: Platform, later: datetime) -> None:
    platform.tcb_info_window = _older(platform, later)


def _older_crl(platform: Platform, later: datetime) -> None:
    platform.pck_crl_window = _older(platform, later)


def _older_root_crl(platform: Platform, later: datetime) -> None:
    platform.root_crl_window = _older(platform, later)


OLDER = pytest.mark.parametrize(
    "older",
    [_older_evaluation, _older_identity, _older_tcb_info, _older_crl, _older_root_crl],
    ids=lambda older: older.__name__,
)


@OLDER
@pytest.mark.attack("B05")
def test_nothing_in_it_goes_back(
    held: HeldCollateral, now: datetime, older: Callable[[Platform, datetime], None]
) -> None:
    kept = held.current(now)
    older(held.platform, now + HOURS)
    held.publish()
    with capture_logs() as logs:
        assert held.current(now + HOURS) is kept
    assert [entry["event"] for entry in logs] == ["collateral.refused"]


@OLDER
@pytest.mark.attack("B05")
@pytest.mark.attack("I04")
def test_what_was_seen_is_remembered_past_a_restart(
    held: HeldCollateral, now: datetime, older: Callable[[Platform, datetime], None]
) -> None:
    held.current(now)
    older(held.platform, now + HOURS)
    held.publish()
    held.restart()
    assert why_not(held, now + HOURS) == "collateral.rolled_back"
    assert held.memory.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("raw", [b"", b"{}", b"<html>", b"\xff" * 9_000_000], ids=["empty", "object", "html", "huge"])
@pytest.mark.attack("B16")
def test_a_broken_file_changes_nothing(held: HeldCollateral, now: datetime, raw: bytes) -> None:
    kept = held.current(now)
    held.publish(raw)
    with capture_logs() as logs:
        assert held.current(now) is kept
        assert held.current(now) is kept
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("collateral.refused", "error")]


def test_a_file_that_is_gone_changes_nothing_and_is_missed_once(held: HeldCollateral, now: datetime) -> None:
    kept = held.current(now)
    held.path.unlink()
    with capture_logs() as logs:
        assert held.current(now) is kept
        assert held.current(now) is kept
    assert [entry["event"] for entry in logs] == ["collateral.refused"]


@pytest.mark.attack("B04")
@pytest.mark.attack("B17")
def test_a_file_that_cannot_be_read_for_a_while_is_taken_when_it_can_be(held: HeldCollateral, now: datetime) -> None:
    before = held.current(now)
    held.platform.reissue(now + HOURS)
    raw = held.publish()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with capture_logs() as logs:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))  # no descriptor is left
        try:
            found = [held.store.current(quote_of(held.platform), now + HOURS) for _ in range(3)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found == [before] * 3
    assert [line["event"] for line in logs] == ["collateral.refused"]  # said once
    assert held.current(now + HOURS).raw == raw


def test_expired_collateral_refuses_new_appraisals(held: HeldCollateral, now: datetime) -> None:
    held.current(now)
    assert why_not(held, now + DAYS_31) == "collateral.expired"


@pytest.mark.attack("B04")
def test_collateral_that_has_expired_before_the_start_is_refused(held: HeldCollateral, now: datetime) -> None:
    assert why_not(held, now + DAYS_31) == "crl.expired"


def test_fresh_collateral_ends_an_expiry(held: HeldCollateral, now: datetime) -> None:
    why_not(held, now + DAYS_31)
    held.platform.reissue(now + DAYS_31)
    held.publish()
    held.current(now + DAYS_31)


@pytest.mark.attack("B09")
def test_a_clock_that_is_set_back_is_refused_and_may_come_right_again(held: HeldCollateral, now: datetime) -> None:
    past = now - timedelta(days=365)
    why_not(held, past)
    held.store.again(past)
    why_not(held, past)
    held.store.again(now)
    assert held.current(now).raw == held.path.read_bytes()
    assert why_not(held, past) == "collateral.not_yet_valid"


def test_what_is_from_the_future_is_not_forgotten_for_what_else_comes(held: HeldCollateral, now: datetime) -> None:
    other = other_family(held.platform)
    held.platform.reissue(now + HOURS)
    held.publish()
    why_not(held, now)
    held.store.offer([other.collateral()], now)
    held.store.again(now)
    assert set(held.store.held) == {family_of(other)}
    held.store.again(now + HOURS)
    assert set(held.store.held) == {family_of(other), family_of(held.platform)}
    assert not held.store.refused


def test_what_is_older_is_not_offered_again(held: HeldCollateral, now: datetime) -> None:
    old = held.platform.collateral()
    held.platform.reissue(now + HOURS)
    held.publish()
    held.current(now + HOURS)
    held.store.offer([old], now + HOURS)
    assert not held.store.refused


def test_collateral_under_another_root_is_never_in_force(held: HeldCollateral, now: datetime) -> None:
    memory = FileMemory(held.folder / "other.json")
    store = CollateralStore(INTEL_SGX, memory, watched=CollateralInFile(held.path))
    with pytest.raises(NotReady):
        store.current(quote_of(held.platform), now)


def test_a_verifier_does_not_start_without_collateral(tmp_path: Path, held: HeldCollateral) -> None:
    with pytest.raises(NotReady, match="collateral"):
        CollateralInFile(tmp_path / "missing.json")
    held.publish(b"{}")
    with pytest.raises(NotReady, match="collateral"):
        held.restart()


# Its memory


def test_what_cannot_be_remembered_is_not_taken_and_is_tried_again(held: HeldCollateral, now: datetime) -> None:
    (held.folder / "seen.new").mkdir()  # in the place of the file that is to be written
    with pytest.raises(Unavailable):
        held.current(now)
    assert not held.store.held
    (held.folder / "seen.new").rmdir()
    assert held.current(now).raw == held.path.read_bytes()


@pytest.mark.parametrize("memory", [b"", b"[]", b'{"a": "b"}', b'{"a": ["b"]}'])
def test_a_memory_that_cannot_be_read_is_not_taken_for_an_empty_one(held: HeldCollateral, memory: bytes) -> None:
    held.memory.write_bytes(memory)
    with pytest.raises(NotReady, match="remove it to begin again"):
        held.restart()


def test_the_memory_names_what_it_remembers_and_never_lowers_it(held: HeldCollateral, now: datetime) -> None:
    held.current(now)
    memory = FileMemory(held.memory)
    seen = memory.newest()
    assert sorted(name.split()[1] for name in seen) == ["crl", "crl", "qe_identity", "tcb_info"]
    memory.remember({name: [0] for name in seen})
    assert FileMemory(held.memory).newest() == seen


# Several families


def test_each_quote_is_given_the_collateral_of_its_family(held: HeldCollateral, now: datetime) -> None:
    other = other_family(held.platform)
    held.publish(bundle(1, held.platform, other, now=now).signed([Ed25519PrivateKey.generate()]))
    assert held.current(now).verified.tcb_info.fmspc == held.platform.fmspc
    assert held.current(now, other).verified.tcb_info.fmspc == other.fmspc


def test_an_unknown_family_is_asked_for_and_the_attester_is_not_at_fault(held: HeldCollateral, now: datetime) -> None:
    asked: list[Family] = []
    held.store.on_unknown.append(asked.append)
    other = other_family(held.platform)
    assert why_not(held, now, other) == "collateral.family_unknown"
    assert asked == [family_of(other)]
    held.current(now)  # the known one is served on


@pytest.mark.attack("G27")
def test_nobody_is_asked_for_a_family_that_no_genuine_platform_is_of(held: HeldCollateral, now: datetime) -> None:
    asked: list[Family] = []
    held.store.on_unknown.append(asked.append)
    forged = Platform.generate(now)  # the same structure, under a root of its own
    forged.fmspc = bytes(6)
    with pytest.raises(EvidenceRejected) as refused:
        held.current(now, forged)
    assert (refused.value.step, refused.value.reason) == (2, "anchor.untrusted")
    assert asked == []


def test_a_family_with_older_lists_is_given_the_newer_ones_of_another(held: HeldCollateral, now: datetime) -> None:
    old, later = other_family(held.platform).collateral(), now + HOURS
    held.platform.reissue(later)
    held.platform.revoked.add("pck")
    newer = held.platform.collateral()
    held.store.offer([old, newer], later)
    families = list(held.store.held.values())
    assert len({one.verified.pck_crl.this_update for one in families}) == 1
    assert all(len(one.verified.pck_crl.serials) == 1 for one in families)
    assert {newer} < {one.raw for one in families}


def test_lists_that_come_with_one_family_are_in_force_for_all(held: HeldCollateral, now: datetime) -> None:
    before, later = held.current(now), now + HOURS
    other = other_family(held.platform)
    other.reissue(later)
    adopted = held.store.offer([other.collateral()], later)
    assert adopted == {family_of(held.platform), family_of(other)}
    after = held.current(later)
    assert after.verified.pck_crl.this_update > before.verified.pck_crl.this_update
    assert after.verified.collateral.tcb_info_document == before.verified.collateral.tcb_info_document


@pytest.mark.attack("B05")
def test_a_family_alone_cannot_bring_back_a_list_that_another_had_newer(held: HeldCollateral, now: datetime) -> None:
    old, later = other_family(held.platform), now + HOURS
    stale = old.collateral()
    held.platform.reissue(later)
    held.publish()
    held.current(later)
    held.publish(stale)
    held.restart()
    assert why_not(held, later, old) == "collateral.rolled_back"


def test_whoever_wants_to_know_hears_of_what_comes_into_force(held: HeldCollateral, now: datetime) -> None:
    heard: list[frozenset[Family]] = []
    held.store.on_adopted.append(heard.append)
    held.current(now)
    held.current(now)
    held.platform.reissue(now + HOURS)
    held.publish()
    held.current(now + HOURS)
    assert heard == [frozenset({family_of(held.platform)})] * 2


@pytest.mark.attack("B18")
def test_entries_of_a_revocation_list_come_and_go(held: HeldCollateral, now: datetime) -> None:
    counts = []
    for hours, revoked in ((0, False), (1, True), (2, False)):
        moment = now + timedelta(hours=hours)
        held.platform.reissue(moment)
        held.platform.revoked = {"pck"} if revoked else set()
        held.publish()
        with capture_logs() as logs:
            counts.append(len(held.current(moment).verified.pck_crl.serials))
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["crl.changed"] * (hours > 0)
    assert counts == [0, 1, 0]


def test_a_refusal_is_settled_when_what_is_in_force_is_offered_again(held: HeldCollateral, now: datetime) -> None:
    old = held.platform.collateral()
    held.platform.reissue(now + HOURS)
    new = held.publish()
    held.current(now + HOURS)
    held.store.offer([old], now + HOURS)
    assert set(held.store.objections) == {family_of(held.platform)}
    held.store.offer([new], now + HOURS)
    assert not held.store.objections


def test_many_threads_get_one_answer(held: HeldCollateral, now: datetime) -> None:
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(held.current(now).raw)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [held.path.read_bytes()] * 8


# Bundles


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def signed(tmp_path: Path, now: datetime, key: Ed25519PrivateKey) -> HeldCollateral:
    """A signed bundle, and a store that believes its signer only."""
    signers = frozenset({key.public_key().public_bytes_raw().hex()})
    made = HeldCollateral(tmp_path, simulated_platform(now), signers)
    made.publish(bundle(7, made.platform, now=now).signed([key]))
    made.restart()
    return made


@pytest.mark.attack("J07")
def test_a_bundle_that_nobody_trusted_has_signed_changes_nothing(signed: HeldCollateral, now: datetime) -> None:
    kept = signed.current(now)
    signed.platform.reissue(now + HOURS)
    signed.publish(bundle(8, signed.platform, now=now).signed([Ed25519PrivateKey.generate()]))
    assert signed.current(now + HOURS) is kept
    with pytest.raises(NotReady, match="1 must"):
        signed.restart()


@pytest.mark.attack("J07")
def test_a_file_without_signatures_is_refused_where_there_must_be_some(signed: HeldCollateral, now: datetime) -> None:
    kept = signed.current(now)
    signed.platform.reissue(now + HOURS)
    signed.publish()
    assert signed.current(now + HOURS) is kept
    with pytest.raises(NotReady, match="no signed bundle"):
        signed.restart()


@pytest.mark.attack("J07")
def test_an_older_bundle_is_refused_whatever_is_in_it(
    signed: HeldCollateral, now: datetime, key: Ed25519PrivateKey
) -> None:
    kept = signed.current(now)
    signed.platform.reissue(now + HOURS)
    signed.publish(bundle(6, signed.platform, now=now).signed([key]))
    assert signed.current(now + HOURS) is kept
    signed.restart()
    assert why_not(signed, now + HOURS) == "collateral.rolled_back"
    signed.publish(bundle(8, signed.platform, now=now).signed([key]))
    signed.current(now + HOURS)


@pytest.mark.attack("J07")
def test_a_bundle_with_one_changed_byte_is_refused(signed: HeldCollateral, now: datetime) -> None:
    kept = signed.current(now)
    content = bytearray(signed.path.read_bytes())
    position = content.index(b'"payload": "') + 200
    content[position] = ord("A") if content[position] != ord("A") else ord("B")
    signed.publish(bytes(content))
    with capture_logs() as logs:
        assert signed.current(now) is kept
    assert [entry["event"] for entry in logs] == ["collateral.refused"]
