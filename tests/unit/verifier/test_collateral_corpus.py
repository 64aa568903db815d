"""Collateral that Intel signed, recorded, in the store of a verifier: what is stale, older, or of another family."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.api.v1.verifier_pb2 import AppraiseRequest
from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.policy import Policy
from cloister.appraisal.verify import verify_quote
from cloister.errors import EvidenceRejected, NotReady
from cloister.verifier.collateral import CollateralStore
from cloister.verifier.collateral_memory import FileMemory
from fakes import corpus

pytestmark = pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)


def store(folder: Path, anchor: TrustAnchor = INTEL_SGX) -> CollateralStore:
    return CollateralStore(anchor, FileMemory(folder / "seen.json"))


def of(name: str) -> tuple[bytes, bytes, corpus.Evaluation]:
    """Quote, collateral, and the evaluation they are of."""
    one = corpus.evaluation(name)
    return one.quote.read_bytes(), one.collateral.read_bytes(), one


@pytest.mark.attack("B04")
@pytest.mark.parametrize(
    ("stale", "good"),
    [
        ("col-sgx-tcbinfo-stale:valid", "sgx-swhn-01:valid"),
        ("col-sgx-rootcrl-stale:valid", "sgx-swhn-01:valid"),
        ("col-sgx-pckcrl-stale:valid", "sgx-swhn-01:valid"),
        ("col-tdx-tcbinfo-stale:valid", "tdx4-utd-01:valid"),
        ("sgx-eval-01a:collateral_expired", "sgx-eval-01a:valid"),
        ("tdx4-eval-01a:collateral_expired", "tdx4-eval-01a:valid"),
    ],
)
def test_what_is_stale_never_comes_into_force(tmp_path: Path, stale: str, good: str) -> None:
    quote, raw, one = of(stale)
    held = store(tmp_path)
    assert held.offer([raw], one.now) == frozenset()
    with pytest.raises(NotReady) as refused:
        held.current(quote, one.now)
    assert refused.value.reason in {"collateral.expired", "crl.expired"}
    quote, raw, one = of(good)
    assert held.offer([raw], one.now)
    assert held.current(quote, one.now).raw == raw


@pytest.mark.attack("B05")
@pytest.mark.attack("B06")
@pytest.mark.parametrize(
    ("newer", "older", "now"),
    [
        ("sgx-eval-01b:valid", "sgx-eval-01a:valid", datetime(2025, 6, 15, tzinfo=UTC)),
        ("tdx4-eval-01b:valid", "tdx4-eval-01a:valid", datetime(2026, 7, 10, tzinfo=UTC)),
    ],
)
def test_the_evaluation_number_that_was_seen_counts_though_an_older_one_is_in_date(
    tmp_path: Path, newer: str, older: str, now: datetime
) -> None:
    (quote, raw, _), (same_quote, raw_older, _) = of(newer), of(older)
    assert quote == same_quote
    held = store(tmp_path)
    held.offer([raw], now)
    assert held.offer([raw_older], now) == frozenset()
    assert held.current(quote, now).raw == raw
    again = store(tmp_path)  # a restart
    again.offer([raw_older], now)
    with pytest.raises(NotReady) as refused:
        again.current(quote, now)
    assert refused.value.reason == "collateral.rolled_back"
    untouched = tmp_path / "another verifier"
    untouched.mkdir()
    assert store(untouched).offer([raw_older], now)  # by itself there is nothing wrong with it


@pytest.mark.attack("B06")
def test_an_attester_has_no_say_in_what_it_is_judged_by() -> None:
    fields = {field.name for field in AppraiseRequest.DESCRIPTOR.fields}
    evidence = AppraiseRequest.DESCRIPTOR.fields_by_name["evidence"].message_type
    assert not [name for name in fields | {field.name for field in evidence.fields} if "collateral" in name]


@pytest.mark.attack("B07")
def test_of_two_evaluation_sets_the_smaller_counts(tmp_path: Path) -> None:
    quote, raw, one = of("sim-eval-mismatch:valid")
    held = store(tmp_path, one.anchor())
    held.offer([raw], one.now)
    endorsed = held.current(quote, one.now).verified
    assert (endorsed.tcb_info.evaluation, endorsed.qe_identity.evaluation, endorsed.evaluation) == (21, 12, 12)
    verified = verify_quote(quote, endorsed, one.anchor(), one.now)
    Policy(minimum_evaluation=12).evaluate(verified, one.now)
    with pytest.raises(EvidenceRejected) as refused:
        Policy(minimum_evaluation=13).evaluate(verified, one.now)
    assert refused.value.reason == "evaluation.outdated"


def test_real_families_side_by_side(tmp_path: Path) -> None:
    """All real families whose collateral was good at one time, offered at once, each quote judged by its own."""
    now = datetime(2026, 4, 5, tzinfo=UTC)
    good = [
        one
        for one in corpus.evaluations()
        if one.expected.verified and not one.anchor().simulated and abs((one.now - now).days) < 8
    ]
    held = store(tmp_path)
    held.offer([one.collateral.read_bytes() for one in good], now)
    assert len(held.held) >= 2
    for one in good:
        quote = one.quote.read_bytes()
        endorsed = held.current(quote, now).verified
        assert verify_quote(quote, endorsed, INTEL_SGX, now).tcb.status == one.expected.tcb_status, one.name
