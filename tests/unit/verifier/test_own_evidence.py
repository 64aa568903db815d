"""The verifier's own evidence: for one nonce and one key, one quote at a time, and never without an enclave."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.errors import EvidenceRejected, InvalidRequest, NotReady, Overloaded
from cloister.evidence.binding import decode
from cloister.evidence.gramine import GramineQuoter
from cloister.verifier import own_evidence
from cloister.verifier.own_evidence import MAX_WAITING
from fakes.held_collateral import quote_of
from fakes.sim import VERIFIER_ENCLAVE, SampleEvidence, good_evidence, simulated_quoter
from fakes.verifier_desk import VerifierDesk, enrol_peer, submission, verifier_desk

NONCE, KEY = secrets.token_bytes(32), secrets.token_bytes(32)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[VerifierDesk]:
    with verifier_desk(tmp_path) as made:
        yield made


class SlowQuoter:
    """Quotes when it is let, and counts how many at a time ask."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.at_once = self.most = self.made = 0

    async def quote(self, report_data: bytes) -> bytes:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.release.wait()
        self.at_once -= 1
        self.made += 1
        return await simulated_quoter(enclave=VERIFIER_ENCLAVE).quote(report_data)


async def test_its_claims_name_the_verifier_and_what_it_stands_for(desk: VerifierDesk) -> None:
    attester = desk.own_attester()
    made = await attester.evidence(NONCE, KEY)
    claims = decode(made.bundle.evidence.claims)
    own = str(desk.identity.spiffe_id)
    assert (claims.role, claims.spiffe_id, claims.audience) == ("verifier", own, own)
    assert (claims.nonce, claims.tls_spki_sha256) == (NONCE, KEY)
    assert claims.config_digest == made.trust.digest()
    assert made.trust.policy_digest == desk.policy.digest
    assert made.bundle.collateral == desk.collateral.current(quote_of(desk.platform), desk.now()).raw
    assert claims.instance == decode((await attester.evidence(NONCE, KEY)).bundle.evidence.claims).instance
    assert claims.instance != decode((await desk.own_attester().evidence(NONCE, KEY)).bundle.evidence.claims).instance


async def test_quotes_are_made_one_at_a_time_and_few_wait(desk: VerifierDesk) -> None:
    quoter = SlowQuoter()
    attester = desk.own_attester(quoter)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(attester.evidence(NONCE, KEY)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await attester.evidence(NONCE, KEY)
        quoter.release.set()
    assert (quoter.most, quoter.made) == (1, MAX_WAITING)  # none is kept for the next who brings the same nonce
    assert len({task.result().bundle.evidence.quote for task in asking}) == MAX_WAITING
    await attester.evidence(NONCE, KEY)


async def test_a_platform_that_makes_no_quote_does_not_hold_anybody_for_good(
    desk: VerifierDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_evidence, "QUOTE_S", 0.01)
    attester = desk.own_attester(SlowQuoter())
    for _ in range(MAX_WAITING + 1):
        with pytest.raises(TimeoutError):
            await attester.evidence(NONCE, KEY)


@pytest.mark.parametrize("nonce", [b"", NONCE[1:], NONCE + b"\0"], ids=["none", "short", "long"])
async def test_a_nonce_is_32_bytes(desk: VerifierDesk, nonce: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await desk.own_attester().evidence(nonce, KEY)
    assert refused.value.reason == "nonce.invalid"


async def test_outside_an_enclave_there_is_none(desk: VerifierDesk, tmp_path: Path) -> None:
    with pytest.raises(NotReady) as refused:
        await desk.own_attester(GramineQuoter(tmp_path / "none")).evidence(NONCE, KEY)
    assert refused.value.reason == "enclave.absent"


@pytest.mark.attack("D06")
async def test_a_verifiers_evidence_is_not_taken_for_a_workers(desk: VerifierDesk) -> None:
    """Anybody may have the verifier make evidence for a nonce that it gave out itself; it joins nobody to the mesh."""
    challenge, good = await desk.evidence()
    bundle = (await desk.own_attester().evidence(challenge.nonce, good.claims.tls_spki_sha256)).bundle.evidence
    with pytest.raises(EvidenceRejected):
        await desk.appraiser.appraise(
            submission(challenge, good, claims=bundle.claims, quote=bundle.quote), enrol_peer()
        )
    (entry,) = desk.entries()
    assert (entry["step"], entry["reason"]) == (5, "claims.role_mismatched")


@pytest.mark.attack("D06")
@pytest.mark.parametrize("role", ["verifier", "provisioner", "gateway", "operator"])
async def test_evidence_earns_a_workers_certificate_and_no_other(desk: VerifierDesk, role: str) -> None:
    challenge, good = await desk.evidence()
    keys = {"hpke_suite": "", "hpke_public": b"", "receipt_key": b""} if role == "verifier" else {}
    posing: SampleEvidence = good_evidence(
        platform=desk.platform, nonce=challenge.nonce, tls_key=good.tls_key, role=role, **keys
    )
    with pytest.raises(EvidenceRejected):
        await desk.appraiser.appraise(submission(challenge, posing), enrol_peer())
    assert desk.entries()[-1]["reason"] == "claims.role_mismatched"
