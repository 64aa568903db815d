"""What a judging process answers, without the process: frames in, frames out."""

from __future__ import annotations

import io
import json
from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Evidence, Expected, appraise
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.policy import Policy
from cloister.appraisal.reference import Kss, PlatformMode, PlatformRule, ReferenceValue
from cloister.verifier import judge_frames as frames
from cloister.verifier import judge_process
from cloister.verifier.judge_frames import Anchor, Answer, Question
from cloister.verifier.judge_process import Bench, serve
from fakes.sim import ENCLAVE, SampleEvidence, good_evidence

POLICY = Policy(
    policy_id="all of it",
    accepted_statuses=frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE}),
    accepted_advisories=frozenset({"INTEL-SA-00334"}),
    reference_values=(
        ReferenceValue(mrenclave=ENCLAVE.mrenclave),
        ReferenceValue(mrsigner=b"s" * 32, isvprodid=1, minimum_isvsvn=2, kss=Kss(config_svn=3)),
    ),
    platforms=PlatformRule(mode=PlatformMode.OFF, allow=frozenset({b"p" * 16}), deny=frozenset({b"q" * 16})),
    allow_zero_padding=True,
)


@pytest.fixture
def evidence() -> SampleEvidence:
    return good_evidence()


@pytest.fixture
def anchor(evidence: SampleEvidence) -> TrustAnchor:
    return TrustAnchor("simulated", evidence.root_der)


def question(evidence: SampleEvidence, policy: Policy = POLICY, **changes: object) -> Question:
    """Everything in it: what a process that holds nothing is asked."""
    asked = Question(
        quote=evidence.quote,
        claims=evidence.claims_bytes,
        expect=Expected(nonce=evidence.claims.nonce, cluster=evidence.claims.cluster),
        now=datetime.now(UTC),
        collateral_sha256=Collateral.parse(evidence.collateral).sha256,
        policy_digest=policy.digest,
        collateral=evidence.collateral,
        policy=policy,
    )
    return replace(asked, **changes)  # type: ignore[arg-type]  # a test names the fields


def test_a_policy_arrives_as_the_policy_it_was(evidence: SampleEvidence) -> None:
    asked = question(evidence)
    arrived = frames.decode(frames.encode(asked)[frames.LENGTH_BYTES :], Question)
    assert arrived == asked
    assert arrived.policy is not None
    assert arrived.policy.digest == POLICY.digest


def test_a_process_comes_to_what_a_thread_comes_to(evidence: SampleEvidence, anchor: TrustAnchor) -> None:
    asked = question(evidence)
    requests = io.BytesIO(frames.encode(Anchor(name=anchor.name, root_der=anchor.root_der)) + frames.encode(asked))
    answers = io.BytesIO()
    serve(requests, answers)
    written, found = answers.getvalue(), []
    while written:
        size = frames.length(written[: frames.LENGTH_BYTES]) + frames.LENGTH_BYTES
        found.append(frames.decode(written[frames.LENGTH_BYTES : size], Answer))
        written = written[size:]
    assert found[0] == Answer(ready=True)
    assert found[1].appraisal == appraise(
        Evidence(raw_quote=evidence.quote, claims_bytes=evidence.claims_bytes),
        Collateral.parse(evidence.collateral),
        POLICY,
        anchor,
        asked.now,
        expect=asked.expect,
    )
    assert len(found) == 2


def test_what_it_holds_need_not_come_again(evidence: SampleEvidence, anchor: TrustAnchor) -> None:
    bench = Bench(anchor)
    short = replace(question(evidence), collateral=None, policy=None)
    assert bench.answer(short) == Answer(needs=True)
    assert bench.answer(question(evidence)).appraisal is not None
    assert bench.answer(short).appraisal is not None
    assert bench.answer(replace(short, policy_digest=bytes(32))) == Answer(needs=True)


def test_what_it_holds_is_bounded(
    evidence: SampleEvidence, anchor: TrustAnchor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_process, "HELD", 1)
    bench, other = Bench(anchor), Policy.default()
    bench.answer(question(evidence))
    bench.answer(question(evidence, other))
    assert bench.answer(replace(question(evidence), collateral=None, policy=None)) == Answer(needs=True)
    assert bench.answer(replace(question(evidence, other), collateral=None, policy=None)).appraisal is not None


def test_a_rejection_keeps_its_step_and_reason(evidence: SampleEvidence, anchor: TrustAnchor) -> None:
    rejected = Bench(anchor).answer(question(evidence, expect=Expected(nonce=bytes(32)))).rejected
    assert rejected is not None
    assert (rejected.step, rejected.reason) == (5, "claims.nonce_mismatched")


def test_an_error_of_ours_is_named_by_its_class_and_the_next_question_is_answered(
    evidence: SampleEvidence, anchor: TrustAnchor
) -> None:
    bench = Bench(anchor)
    bench.answer(question(evidence))
    assert bench.answer(question(evidence, now=datetime.now())) == Answer(failed="TypeError")
    assert bench.answer(question(evidence)).appraisal is not None


_NAMES = [field.name for kind in (Anchor, Question, Answer) for field in fields(kind)]
_SCALARS = st.none() | st.booleans() | st.integers() | st.text()
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(_NAMES) | st.text(), inner)
)


@given(st.binary(max_size=64) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_bytes_that_are_no_message_are_a_value_error(raw: bytes) -> None:
    for kind in (Anchor, Question, Answer):
        try:
            frames.decode(raw, kind)
        except ValueError:
            continue


def test_a_frame_has_a_limit() -> None:
    with pytest.raises(ValueError, match="too long"):
        frames.length(b"\xff\xff\xff\xff")
