"""Every evaluation of the quote corpus comes to what its manifest says, by one path and with no case treated apart."""

from __future__ import annotations

from functools import cache

import pytest

from cloister.appraisal import second
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.policy import Policy
from cloister.appraisal.verify import verify_quote
from cloister.client import JudgedEntry, judge_corpus
from cloister.errors import EvidenceRejected
from fakes import corpus
from fakes.corpus import Evaluation, verified

# Which of our reasons each of the corpus's words may come to.
REASONS = {
    "verification": {
        "anchor.untrusted",
        "collateral.expired",
        "collateral.not_yet_valid",
        "crl.expired",
        "quote.signature_broken",
        "tcb.level_missing",
    },
    "malformed_or_forged": {
        "anchor.untrusted",
        "certificate.expired",
        "certificate.malformed",
        "chain.broken",
        "chain.missing",
        "chain.too_long",
        "pck_chain.missing",
        "qe_report.data_mismatched",
        "qe_report.signature_broken",
        "qe_vendor.unknown",
        "quote.malformed",
        "quote.signature_broken",
        "quote.unsupported",
    },
    "collateral": {
        "certificate.expired",
        "certificate.role_mismatched",
        "chain.ambiguous",
        "collateral.expired",
        "collateral.malformed",
        "collateral.mismatched",
        "collateral.signature_broken",
        "crl.expired",
        "crl.issuer_mismatched",
        "crl.malformed",
        "crl.signature_broken",
    },
    "untrusted_root": {"anchor.untrusted", "chain.broken", "crl.issuer_mismatched"},
    "pck_chain_missing": {"pck_chain.missing"},
    "trailing_bytes": {"quote.trailing_bytes", "quote.padded"},
    "qe_vendor": {"qe_vendor.unknown"},
    "qe_identity": {"qe_identity.mismatched", "qe_identity.level_missing"},
    "qe_report_data": {"qe_report.data_mismatched"},
    "qe_auth_data": {"qe_auth_data.malformed"},
    "signature": {"quote.signature_broken", "qe_report.signature_broken"},
    "certificate_revoked": {"certificate.revoked"},
    "certificate_role": {"certificate.role_mismatched"},
    "certificate_validity": {"certificate.expired"},
    "certificate_chain": {"chain.broken"},
    "certificate_algorithm": {"certificate.algorithm_refused"},
    "crl_expired": {"crl.expired"},
    "crl_signature": {"crl.signature_broken"},
    "pceid_mismatch": {"collateral.mismatched"},
    "tcbinfo_id": {"collateral.malformed"},
    "tcbinfo_json": {"collateral.malformed"},
    "tcbinfo_type": {"collateral.unsupported"},
    "tcbinfo_version": {"collateral.unsupported"},
    "tcb_revoked": {"tcb.revoked"},
    "no_matching_tcb_level": {"tcb.level_missing"},
    "tcb_status": {"tcb_status.refused"},
    "advisory_not_accepted": {"advisory.refused"},
    "debug": {"enclave.debug"},
    "attributes": {"attributes.refused"},
    "td_attributes": {"attributes.refused"},
    "configid_not_pinned": {"kss.unpinned"},
}

# What no policy can accept; the second verifier refuses most of it as well, in its own step.
NEVER = {"debug", "attributes", "td_attributes", "configid_not_pinned"}


@cache
def judged() -> dict[str, JudgedEntry]:
    """What `cloister evidence judge` prints, by the evaluation's name."""
    return {f"{one.id}:{one.label}": one for one in judge_corpus(corpus.FOLDER)}


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
def test_the_corpus_is_whole() -> None:
    assert len(corpus.evaluations()) == len(judged()) == corpus.EVALUATIONS
    assert {one.expected.reason for one in corpus.evaluations()} - {None} == REASONS.keys()


@pytest.mark.parametrize("one", corpus.evaluations(), ids=lambda one: one.name)
def test_evaluation(one: Evaluation) -> None:
    expected, found = one.expected, judged()[one.name]
    assert found.crypto == ("verified" if expected.verified else "reject"), found.reason
    if expected.verified:
        assert (found.tcb_status, found.advisory_ids) == (expected.tcb_status, expected.advisory_ids)
    else:
        assert (found.tcb_status, found.advisory_ids) == (None, None)
    assert found.default_policy == ("accept" if expected.accepted else "reject"), found.reason
    assert found.reason in (REASONS[expected.reason] if expected.reason else {None})
    assert (found.step is None) == (found.reason is None)


@pytest.mark.parametrize(
    "one", [one for one in corpus.evaluations() if one.expected.verified], ids=lambda one: one.name
)
def test_whatever_a_policy_can_accept_the_second_verifier_confirms(one: Evaluation) -> None:
    found = verified(one)
    widest = Policy(
        policy_id="widest",
        accepted_statuses=frozenset(TcbStatus) - {TcbStatus.REVOKED},
        accepted_advisories=frozenset(found.tcb.advisory_ids),
        allow_zero_padding=True,
    )
    if one.expected.reason in NEVER:
        with pytest.raises(EvidenceRejected) as refused:
            widest.evaluate(found, one.now)
        assert refused.value.reason in REASONS[one.expected.reason]
    else:
        widest.evaluate(found, one.now)
        second.confirm(found, one.now)


@pytest.mark.parametrize(
    "one", [one for one in corpus.evaluations() if one.expected.accepted], ids=lambda one: one.name
)
def test_collateral_verified_once_serves_many_quotes(one: Evaluation) -> None:
    endorsed = Collateral.parse(one.collateral.read_bytes()).verified(one.anchor(), one.now)
    assert endorsed.valid_from <= one.now < endorsed.valid_until
    found = verify_quote(one.quote.read_bytes(), endorsed, one.anchor(), one.now)
    assert found.endorsed is endorsed
    assert found.tcb == verified(one).tcb
