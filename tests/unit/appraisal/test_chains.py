"""A PCK chain that is known saves work, and nothing else: whatever would refuse it the first time refuses it later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.chains import VerifiedChain, VerifiedChains
from cloister.appraisal.collateral import Collateral, VerifiedCollateral
from cloister.appraisal.verify import verify_quote
from cloister.errors import EvidenceRejected
from cloister_simulator.platform import Platform

QUOTE_LIFE = timedelta(days=7)


@pytest.fixture
def endorsed(sim: Platform, anchor: TrustAnchor, now: datetime) -> VerifiedCollateral:
    return Collateral.parse(sim.collateral()).verified(anchor, now)


def reason(act: Callable[[], object]) -> str:
    with pytest.raises(EvidenceRejected) as refused:
        act()
    assert refused.value.step == 2
    return refused.value.reason


def test_the_next_quote_of_a_platform_finds_its_chain_known(
    sim: Platform, endorsed: VerifiedCollateral, anchor: TrustAnchor, now: datetime
) -> None:
    first = verify_quote(sim.quote(bytes(64)), endorsed, anchor, now)
    second = verify_quote(sim.quote(b"\x01" * 64), endorsed, anchor, now)
    assert second.platform is first.platform
    assert len(endorsed.chains) == 1


def test_a_known_chain_ends_with_its_certificate(sim: Platform, anchor: TrustAnchor, now: datetime) -> None:
    sim.pck_not_after = now + QUOTE_LIFE
    endorsed = Collateral.parse(sim.collateral()).verified(anchor, now)
    raw = sim.quote(bytes(64))
    verify_quote(raw, endorsed, anchor, now)
    late = now + QUOTE_LIFE + timedelta(seconds=1)
    assert reason(lambda: verify_quote(raw, endorsed, anchor, late)) == "certificate.expired"


def test_a_known_chain_ends_with_the_collateral(
    sim: Platform, endorsed: VerifiedCollateral, anchor: TrustAnchor, now: datetime
) -> None:
    raw = sim.quote(bytes(64))
    verify_quote(raw, endorsed, anchor, now)
    assert reason(lambda: verify_quote(raw, endorsed, anchor, endorsed.valid_until)) == "collateral.expired"


def test_a_known_chain_of_a_ca_certified_twice_ends_with_that_certificate(
    sim: Platform, endorsed: VerifiedCollateral, anchor: TrustAnchor, now: datetime
) -> None:
    sim.platform_ca_not_after = now + QUOTE_LIFE
    raw = sim.quote(bytes(64))
    verify_quote(raw, endorsed, anchor, now)
    late = now + QUOTE_LIFE + timedelta(seconds=1)
    assert reason(lambda: verify_quote(raw, endorsed, anchor, late)) == "certificate.expired"


def test_a_platform_revoked_in_newer_collateral_is_not_known_there(
    sim: Platform, endorsed: VerifiedCollateral, anchor: TrustAnchor, now: datetime
) -> None:
    raw = sim.quote(bytes(64))
    verify_quote(raw, endorsed, anchor, now)
    sim.revoked = {"pck"}
    newer = Collateral.parse(sim.collateral()).verified(anchor, now)
    assert reason(lambda: verify_quote(raw, newer, anchor, now)) == "certificate.revoked"


def test_a_known_chain_does_not_speak_for_another_family(
    sim: Platform, endorsed: VerifiedCollateral, anchor: TrustAnchor, now: datetime
) -> None:
    raw = sim.quote(bytes(64))
    verify_quote(raw, endorsed, anchor, now)
    tcb_info = replace(endorsed.tcb_info, fmspc=bytes(6))
    object.__setattr__(endorsed, "collateral", replace(endorsed.collateral, tcb_info=tcb_info))
    assert len(endorsed.chains) == 1
    assert reason(lambda: verify_quote(raw, endorsed, anchor, now)) == "collateral.mismatched"


def test_a_copy_of_collateral_knows_no_chain(
    sim: Platform, endorsed: VerifiedCollateral, anchor: TrustAnchor, now: datetime
) -> None:
    verify_quote(sim.quote(bytes(64)), endorsed, anchor, now)
    stranger = TrustAnchor("stranger", Platform.generate(now).root_der())
    assert len(replace(endorsed, anchor=stranger).chains) == 0


def test_a_chain_that_was_refused_is_not_kept(
    sim: Platform, endorsed: VerifiedCollateral, anchor: TrustAnchor, now: datetime
) -> None:
    sim.pck_subject = "Some Other Leaf"
    raw = sim.quote(bytes(64))
    for _ in range(2):
        assert reason(lambda: verify_quote(raw, endorsed, anchor, now)) == "certificate.role_mismatched"
    assert len(endorsed.chains) == 0


def test_the_memory_is_bounded_and_drops_what_was_used_longest_ago(
    sim: Platform, endorsed: VerifiedCollateral, anchor: TrustAnchor, now: datetime
) -> None:
    verify_quote(sim.quote(bytes(64)), endorsed, anchor, now)
    ((_, chain),) = endorsed.chains._held.items()
    chains = VerifiedChains(capacity=2)
    for name in (b"a", b"b"):
        chains.keep(name, VerifiedChain(chain.pck, chain.ca, chain.platform))
    chains.find(b"a")
    chains.keep(b"c", chain)
    assert len(chains) == 2
    assert chains.find(b"b") is None
    assert chains.find(b"a") is not None
