"""What every refusal has in common (G1, G2, G4, G5 of docs/attacks.md), and quotes that come again in other bytes."""

from __future__ import annotations

import hashlib
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.errors import ChallengeExpired, EvidenceRejected, NotReady
from cloister.verifier.appraiser import REFUSED
from cloister_simulator.signature import raw_public_key, raw_signature
from fakes.quote_bytes import (
    CERTIFICATES,
    KIND,
    LENGTH,
    QE_AUTH_LENGTH,
    REPORT,
    SIGNATURE,
    malleated,
    patched,
    with_chain,
)
from fakes.sim import SampleEvidence
from fakes.verifier_desk import VerifierDesk, enrol_peer, submission, verifier_desk

LIMIT_S = 0.05
LIMIT_BYTES = 1 << 20

Change = Callable[[SampleEvidence], dict[str, Any]]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[VerifierDesk]:
    with verifier_desk(tmp_path) as made:
        yield made


def quote(change: Callable[[bytes], bytes]) -> Change:
    """A submission whose quote was changed."""
    return lambda evidence: {"quote": change(evidence.quote)}


def stolen(raw: bytes) -> bytes:
    thief = ec.generate_private_key(ec.SECP256R1())
    return patched(SIGNATURE, raw_signature(thief, raw[:LENGTH]) + raw_public_key(thief), raw)


def spaced(raw: bytes) -> bytes:
    """White space after the certificates."""
    return with_chain(raw[CERTIFICATES:].rstrip(b"\0") + b"\n\n", raw)


def harmful_claims(_: SampleEvidence) -> dict[str, Any]:
    """A regular expression behind CBOR tag 35, which takes a second to compile."""
    return {"claims": cbor2.dumps({"v": cbor2.CBORTag(35, "(?i)" + "[a-\U0010fffe\x01]" * 500)})}


ATTACKS: dict[str, tuple[Change, str]] = {
    "nothing": (quote(lambda _: b""), "quote.malformed"),
    "half a quote": (quote(lambda raw: raw[:700]), "quote.malformed"),
    "a length that lies": (quote(lambda raw: patched(LENGTH, b"\xff" * 4, raw)), "quote.malformed"),
    "another length that lies": (quote(lambda raw: patched(QE_AUTH_LENGTH, b"\xff\xff", raw)), "quote.malformed"),
    "one megabyte": (quote(lambda _: b"\xff" * (1 << 20)), "quote.too_large"),
    "hexadecimal": (quote(lambda raw: raw.hex().encode()), "quote.unsupported"),
    "two quotes": (quote(lambda raw: raw + raw), "quote.trailing_bytes"),
    "another version": (quote(lambda raw: b"\4" + raw[1:]), "quote.unsupported"),
    "no certificates": (quote(lambda raw: patched(KIND, struct.pack("<H", 3), raw)), "pck_chain.missing"),
    "sixty certificates": (quote(lambda raw: with_chain(raw[CERTIFICATES:].rstrip(b"\0") * 13, raw)), "chain.too_long"),
    "a bit": (quote(lambda raw: patched(REPORT + 70, b"\1", raw)), "quote.signature_broken"),
    "another attestation key": (quote(stolen), "qe_report.data_mismatched"),
    "claims that are harmful": (harmful_claims, "claims.malformed"),
    "claims without end": (lambda _: {"claims": b"\x81" * (1 << 20)}, "claims.malformed"),
    "a key that is none": (lambda _: {"tls_spki": b"\x30" * 1000}, "request.invalid"),
}


class Attempt:
    """One attack, and what it cost."""

    def __init__(self, desk: VerifierDesk, change: Change) -> None:
        self._desk = desk
        self._change = change

    async def send(self) -> int:
        """Bytes that were sent; the caller heard no more than that it was refused."""
        challenge, evidence = await self._desk.evidence()
        sent = submission(challenge, evidence, **self._change(evidence))
        if sent.tls_spki != submission(challenge, evidence).tls_spki:
            challenge = await self._desk.nonces.issue(
                challenge.purpose, peer=enrol_peer().spiffe_id, tls_spki_sha256=hashlib.sha256(sent.tls_spki).digest()
            )
            sent = submission(challenge, evidence, tls_spki=sent.tls_spki)
        with pytest.raises(EvidenceRejected) as heard:
            await self._desk.appraiser.appraise(sent, enrol_peer())
        assert (str(heard.value), heard.value.reason, heard.value.step) == (REFUSED, "evidence.rejected", 0)
        return len(sent.quote) + len(sent.claims)

    async def cpu_s(self) -> float:
        """CPU time of the process for one attempt, the making of the evidence taken off; the better of three."""
        took = []
        for _ in range(3):
            begun = time.process_time()
            await self._desk.evidence()
            between = time.process_time()
            await self.send()
            took.append(time.process_time() - between - (between - begun))
        return min(took)

    async def most_bytes(self) -> tuple[int, int]:
        """What was sent, and the most that was held at once."""
        tracemalloc.start()
        try:
            sent_bytes = await self.send()
            return sent_bytes, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def counted(desk: VerifierDesk) -> dict[tuple[str, str], float]:
    """Appraisals by outcome and reason."""
    return {
        (sample.labels["outcome"], sample.labels["reason"]): sample.value
        for metric in desk.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "cloister_appraisals_total"
    }


@pytest.mark.attack("G1")
@pytest.mark.attack("G2")
@pytest.mark.attack("G4")
@pytest.mark.attack("G5")
@pytest.mark.parametrize("name", ATTACKS)
async def test_a_refusal_is_counted_once_recorded_once_and_hurts_nobody(desk: VerifierDesk, name: str) -> None:
    change, reason = ATTACKS[name]
    await desk.join()
    records, before = len(desk.entries()), counted(desk)
    attempt = Attempt(desk, change)
    await attempt.send()
    assert counted(desk) == {**before, ("rejected", reason): 1}
    (entry,) = desk.entries()[records:]
    assert (entry["event"], entry["reason"], entry["peer"]) == ("evidence.rejected", reason, enrol_peer().spiffe_id)
    assert await attempt.cpu_s() < LIMIT_S
    sent_bytes, most_bytes = await attempt.most_bytes()
    assert most_bytes < max(4 * sent_bytes, LIMIT_BYTES)
    evidence, _ = await desk.join()
    assert desk.attested.get(evidence.claims.instance) is not None


@pytest.mark.attack("A21")
@pytest.mark.attack("A22")
@pytest.mark.parametrize(
    "respelt", [malleated, lambda raw: with_chain(raw[CERTIFICATES:].rstrip(b"\0") + b"\n\n", raw)]
)
async def test_a_quote_in_other_bytes_is_no_other_answer_to_a_challenge(
    desk: VerifierDesk, respelt: Callable[[bytes], bytes]
) -> None:
    challenge, evidence = await desk.evidence()
    await desk.appraiser.appraise(submission(challenge, evidence), enrol_peer())
    again = respelt(evidence.quote)
    assert again != evidence.quote
    with pytest.raises(ChallengeExpired):
        await desk.appraiser.appraise(submission(challenge, evidence, quote=again), enrol_peer())
    fresh = await desk.challenge(evidence.tls_key, enrol_peer())
    with pytest.raises(EvidenceRejected):
        await desk.appraiser.appraise(submission(fresh, evidence, quote=again), enrol_peer())
    assert desk.entries()[-1]["reason"] == "claims.nonce_mismatched"


@pytest.mark.attack("A21")
@pytest.mark.attack("A22")
async def test_nothing_depends_on_which_of_its_spellings_a_quote_comes_in(desk: VerifierDesk) -> None:
    challenge, evidence = await desk.evidence()
    other = malleated(evidence.quote)
    await desk.appraiser.appraise(submission(challenge, evidence, quote=other), enrol_peer())
    member = desk.attested.get(evidence.claims.instance)
    assert member is not None
    assert member.quote == other


@pytest.mark.attack("B09")
@pytest.mark.parametrize("off", [timedelta(days=366), timedelta(days=-366)])
async def test_a_verifier_whose_clock_is_a_year_off_believes_nobody_until_it_is_right(
    desk: VerifierDesk, off: timedelta
) -> None:
    await desk.join()
    desk.ahead = off
    challenge, evidence = await desk.evidence()
    with pytest.raises(NotReady):
        await desk.appraiser.appraise(submission(challenge, evidence), enrol_peer())
    assert desk.entries()[-1]["reason"] in {"collateral.expired", "clock.set_back"}
    desk.ahead = timedelta()
    await desk.join()


@pytest.mark.attack("I03")
async def test_a_verifier_signs_nothing_by_a_clock_that_was_set_back(desk: VerifierDesk) -> None:
    """Back to where older collateral is current still: an hour, where a year would show by itself."""
    desk.ahead = timedelta(hours=1)
    await desk.join()
    desk.ahead = timedelta()
    challenge, evidence = await desk.evidence()
    with pytest.raises(NotReady):
        await desk.appraiser.appraise(submission(challenge, evidence), enrol_peer())
    assert desk.entries()[-1]["reason"] == "clock.set_back"
    desk.ahead = timedelta(hours=1)
    await desk.join()
