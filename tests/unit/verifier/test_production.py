"""A verifier under Intel's root, with Intel's collateral: simulated evidence is nothing to it, whatever it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import pytest

from cloister.appraisal.anchors import INTEL_SGX
from cloister.appraisal.policy import CONTRAINDICATED
from cloister.errors import EvidenceRejected, NotReady
from cloister.evidence.binding import report_data
from fakes import corpus
from fakes.sim import ENCLAVE, simulated_platform
from fakes.verifier_desk import VerifierDesk, enrol_peer, submission, verifier_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[VerifierDesk]:
    with verifier_desk(tmp_path) as made:
        yield made


@pytest.fixture
def production(desk: VerifierDesk) -> VerifierDesk:
    """With collateral that Intel signed, at a time when it was current."""
    genuine = next((one for one in corpus.evaluations() if one.expected.accepted and one.anchor() is INTEL_SGX), None)
    if genuine is None:
        pytest.skip(corpus.ABSENT)
    desk.ahead = genuine.now - datetime.now(UTC)
    desk.platform = simulated_platform(genuine.now)
    desk.collateral_path.write_bytes(genuine.collateral.read_bytes())
    desk.memory_path.unlink(missing_ok=True)
    desk.anchor = INTEL_SGX
    desk.restart()
    assert desk.collateral.current(genuine.quote.read_bytes(), desk.now()).verified.anchor is INTEL_SGX
    return desk


@pytest.mark.attack("C11")
async def test_simulated_evidence_is_refused_by_its_root(production: VerifierDesk) -> None:
    challenge, evidence = await production.evidence()
    with pytest.raises(EvidenceRejected):
        await production.appraiser.appraise(submission(challenge, evidence), enrol_peer())
    (entry,) = production.entries()
    assert (entry["event"], entry["step"]) == ("evidence.rejected", 2)
    assert entry["anchor"] == INTEL_SGX.name


@pytest.mark.attack("C11")
async def test_collateral_of_a_simulated_root_is_no_collateral(production: VerifierDesk) -> None:
    production.publish(production.platform)
    production.restart()
    challenge, evidence = await production.evidence()
    with pytest.raises(NotReady) as refused:
        await production.appraiser.appraise(submission(challenge, evidence), enrol_peer())
    assert refused.value.reason == "crl.issuer_mismatched"
    assert not production.attested.count(simulated=True) + production.attested.count(simulated=False)


@pytest.mark.attack("C11")
@pytest.mark.parametrize(
    "said",
    [
        {"config_digest": b"\xff" * 32},
        {"hpke_suite": "x25519"},
        {"instance": "0" * 32},
        {"enclave": {"isvprodid": 0xFFFF, "isvsvn": 0xFFFF}},
        {"enclave": {"mrenclave": INTEL_SGX.root_der[:32], "mrsigner": bytes(32)}},
    ],
    ids=["configuration", "suite", "instance", "versions", "measurements"],
)
async def test_nothing_an_attester_says_of_itself_makes_its_result_genuine(
    desk: VerifierDesk, said: dict[str, Any]
) -> None:
    changes = dict(said)
    if "enclave" in changes:
        changes["enclave"] = replace(ENCLAVE, **changes["enclave"])
    _, issued = await desk.join(**changes)
    result = desk.read(issued, "mesh")
    assert (result.simulated, result.hardware, result.anchor) == (True, CONTRAINDICATED, "simulated")


@pytest.mark.attack("C11")
@pytest.mark.parametrize("more", [{"sim": False}, {"simulated": False}, {"anchor": "intel-sgx"}, {"hardware": 2}])
async def test_claims_that_would_say_so_are_no_claims(desk: VerifierDesk, more: dict[str, Any]) -> None:
    challenge, good = await desk.evidence()
    claims = cbor2.dumps({**cbor2.loads(good.claims_bytes), **more}, canonical=True)
    quote = desk.platform.quote(report_data(claims))
    with pytest.raises(EvidenceRejected):
        await desk.appraiser.appraise(submission(challenge, good, claims=claims, quote=quote), enrol_peer())
    (entry,) = desk.entries()
    assert (entry["step"], entry["reason"]) == (5, "claims.malformed")
