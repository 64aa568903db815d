"""What evidence costs that is made to cost: under 50 ms of CPU each, and the next good one is believed."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Expected
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.verifier.judge_frames import Question
from cloister.verifier.judge_process import Bench
from cloister.verifier.results import claimed
from cloister_simulator.quote import QuoteParts
from fakes.sim import ENCLAVE, SampleEvidence, good_evidence

MOST_S = 0.05
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"


def pem(der: bytes) -> bytes:
    return _BEGIN + base64.b64encode(der) + b"\n" + _END


CHAINS = {
    "one endless certificate": _BEGIN + b"A" * 60_000,
    "white space": b"\n" * 60_000 + pem(b"\x30\x00"),
    "line ends": _BEGIN + b"\r\n" * 4_000 + _END,
    "beginnings": _BEGIN * 2_000,
    "zeros": pem(bytes(6_000)) * 4,
    "open sequences": pem(b"\x30\x80" * 3_000) * 3,
    "nested sequences": pem(b"".join(b"\x30\x82" + (5_990 - 4 * n).to_bytes(2, "big") for n in range(1_490))) * 3,
}
CLAIMS = {
    "nested arrays": b"\x81" * 4_095 + b"\x00",
    "nested tags": b"\xc1" * 4_095 + b"\x00",
    "a long array": b"\x99\x0f\xfc" + bytes(4_092),
    "a map that says it is huge": b"\xbb" + b"\xff" * 8 + bytes(4_000),
    "a string that says it is huge": b"\x5b" + b"\xff" * 8,
}


def cost_s(act: Callable[[], object]) -> float:
    """CPU seconds of this thread; the least of three, since what disturbs only adds."""
    costs = []
    for _ in range(3):
        began = time.thread_time()
        act()
        costs.append(time.thread_time() - began)
    return min(costs)


def asked(evidence: SampleEvidence) -> Question:
    policy = Policy.default()
    return Question(
        quote=evidence.quote,
        claims=evidence.claims_bytes,
        expect=Expected(),
        now=datetime.now(UTC),
        collateral_sha256=Collateral.parse(evidence.collateral).sha256,
        policy_digest=policy.digest,
        collateral=evidence.collateral,
        policy=policy,
    )


@pytest.fixture(scope="module")
def evidence() -> SampleEvidence:
    return good_evidence()


@pytest.fixture
def bench(evidence: SampleEvidence) -> Bench:
    return Bench(TrustAnchor("simulated", evidence.root_der))


@pytest.mark.attack("G1")
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_made_to_cost(bench: Bench, evidence: SampleEvidence, name: str) -> None:
    def change(parts: QuoteParts) -> None:
        parts.certification_data = CHAINS[name]

    raw = evidence.platform.quote(bytes(64), mrenclave=ENCLAVE.mrenclave, mutate=change)
    hostile = replace(asked(evidence), quote=raw)
    answer = bench.answer(hostile)
    assert answer.rejected is not None
    assert answer.rejected.step == 2
    assert cost_s(lambda: bench.answer(hostile)) < MOST_S
    assert bench.answer(asked(evidence)).appraisal is not None


@pytest.mark.attack("G1")
@pytest.mark.parametrize("raw", [bytes(64 << 10), b"\xff" * (64 << 10), b"\x03\x00\x02\x00" * (16 << 10)])
def test_bytes_that_are_no_quote(bench: Bench, evidence: SampleEvidence, raw: bytes) -> None:
    hostile = replace(asked(evidence), quote=raw)
    answer = bench.answer(hostile)
    assert answer.rejected is not None
    assert answer.rejected.step == 1
    assert cost_s(lambda: bench.answer(hostile)) < MOST_S


@pytest.mark.attack("G1")
@pytest.mark.parametrize("name", CLAIMS)
def test_claims_made_to_cost(bench: Bench, evidence: SampleEvidence, name: str) -> None:
    """As judged, and as the record reads them when they were rejected."""
    hostile = replace(asked(evidence), claims=CLAIMS[name])
    assert bench.answer(hostile).rejected is not None
    assert cost_s(lambda: bench.answer(hostile)) < MOST_S
    assert "instance" not in claimed(evidence.quote, CLAIMS[name])
    assert cost_s(lambda: claimed(evidence.quote, CLAIMS[name])) < MOST_S
