"""Collateral is verified once for all workers it is about, and only while it is valid."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from cloister.appraisal.anchors import INTEL_SGX
from cloister.appraisal.collateral import Collateral
from cloister.client import Client, anchor_of
from cloister.client.collateral import KnownCollateral
from cloister.errors import CloisterError, EvidenceRejected
from fakes.serving import MODEL, FakeGateway, FakeVerifier, FakeWorker
from fakes.sim import simulated_platform

NOW = datetime.now(UTC)
PLATFORM = simulated_platform(NOW)
ANCHOR = anchor_of(PLATFORM.root_der())


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What has been parsed, in order."""
    seen: list[bytes] = []
    parse = Collateral.parse

    def counted(raw: bytes) -> Collateral:
        seen.append(raw)
        return parse(raw)

    monkeypatch.setattr(Collateral, "parse", counted)
    return seen


def test_it_is_kept_by_its_bytes_and_its_anchor(parsed: list[bytes]) -> None:
    known = KnownCollateral()
    raw = PLATFORM.collateral()
    first = known.verified(raw, ANCHOR, NOW)
    assert known.verified(bytes(raw), ANCHOR, NOW) is first
    assert parsed == [raw]
    assert known.verified(b" " + raw, ANCHOR, NOW) is not first
    with pytest.raises(EvidenceRejected):
        known.verified(raw, INTEL_SGX, NOW)


def test_it_is_believed_only_while_it_is_valid(parsed: list[bytes]) -> None:
    known = KnownCollateral()
    raw = PLATFORM.collateral()
    until = known.verified(raw, ANCHOR, NOW).valid_until
    assert known.verified(raw, ANCHOR, until - timedelta(seconds=1)).valid_until == until
    for moment in (until, NOW - timedelta(days=1)):
        with pytest.raises(EvidenceRejected) as refused:
            known.verified(raw, ANCHOR, moment)
        assert refused.value.step == 2


def test_what_is_not_believed_is_not_kept_and_what_is_kept_is_bounded(parsed: list[bytes]) -> None:
    known = KnownCollateral(limit=2)
    raw = PLATFORM.collateral()
    for _ in range(2):
        with pytest.raises(CloisterError):
            known.verified(raw[:-1], ANCHOR, NOW)
    for spaces in (0, 1, 2, 2, 1, 0):
        known.verified(b" " * spaces + raw, ANCHOR, NOW)
    assert [len(each) - len(raw) for each in parsed] == [-1, -1, 0, 1, 2, 0]


async def test_a_client_verifies_it_once_for_all_workers(parsed: list[bytes]) -> None:
    verifier = FakeVerifier()
    workers = [FakeWorker(verifier) for _ in range(3)]
    for worker in workers:
        worker.evidence = replace(worker.evidence, collateral=workers[0].evidence.collateral)
        worker.renew()
    parsed.clear()
    serving = await Client(cast(Any, FakeGateway(*workers)), verifier.trust()).workers(MODEL)
    assert len(serving.believed) == 3
    assert len(parsed) == 1
