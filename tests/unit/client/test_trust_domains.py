"""Workers in trust domains, judged by a client: believed where its bundle names them, whatever the verifier says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cloister.appraisal.policy import Policy
from cloister.client import TrustBundle, believe, judge
from cloister.client.trust import check_believable
from cloister.ear import AttestationResult
from cloister.errors import CloisterError, EvidenceRejected
from cloister_simulator.trust_domain import DEBUG, MIGRATABLE, SEPT_VE_DISABLE, TrustDomain
from fakes.serving import MODEL, FakeVerifier, FakeWorker
from fakes.sim import ENCLAVE, good_evidence

DOMAIN = TrustDomain()
DIGEST = DOMAIN.measurement.digest.hex()


@pytest.fixture
def verifier() -> FakeVerifier:
    return FakeVerifier()


def now() -> datetime:
    return datetime.now(UTC)


def worker_in(verifier: FakeVerifier, domain: TrustDomain = DOMAIN, **more: Any) -> FakeWorker:
    return FakeWorker(verifier, evidence_changes={"domain": domain}, **more)


def naming(verifier: FakeVerifier, **changes: Any) -> TrustBundle:
    """A bundle that names this trust domain and no enclave."""
    return verifier.trust(**{"mrenclave": None, "td_measurement": frozenset({DIGEST}), **changes})


def reason(worker: FakeWorker, trust: TrustBundle) -> str:
    with pytest.raises(CloisterError) as refused:
        believe(worker.serving(), MODEL, trust, now())
    return refused.value.reason


def policy_for(domain: TrustDomain) -> str:
    rtmrs = "".join(f'rtmr{n} = "{each.hex()}"\n' for n, each in enumerate(domain.rtmrs) if any(each))
    return f'policy_id = "ours"\n[[td_reference_values]]\nmrtd = "{domain.mrtd.hex()}"\n{rtmrs}'


def test_a_worker_whose_measurement_is_named_is_believed(verifier: FakeVerifier) -> None:
    worker = worker_in(verifier)
    found = believe(worker.serving(), MODEL, naming(verifier), now())
    assert (found.result.tee, found.result.measurement, found.result.mrenclave) == ("tdx", DIGEST, "")
    assert (found.appraisal.td, found.appraisal.measurement) == (DOMAIN.measurement, DOMAIN.measurement.digest)
    assert found.recipient.hpke_public == worker.evidence.hpke.public


def test_reference_values_of_the_clients_own_policy_name_it_too(verifier: FakeVerifier) -> None:
    trust = naming(verifier, td_measurement=None, policy_toml=policy_for(DOMAIN))
    assert believe(worker_in(verifier).serving(), MODEL, trust, now()).appraisal.executables == 3
    other = naming(verifier, td_measurement=None, policy_toml=policy_for(replace(DOMAIN, mrtd=b"\x01" * 48)))
    assert reason(worker_in(verifier), other) == "measurement.unknown"


def test_enclaves_and_trust_domains_side_by_side(verifier: FakeVerifier) -> None:
    both = naming(verifier, mrenclave=frozenset({ENCLAVE.mrenclave.hex()}))
    for worker in (FakeWorker(verifier), worker_in(verifier)):
        assert believe(worker.serving(), MODEL, both, now()).instance == worker.instance


@pytest.mark.attack("C02")
@pytest.mark.parametrize(
    "changes",
    [
        {"mrtd": b"\x01" * 48},
        *({"rtmrs": tuple(b"\x01" * 48 if m == n else each for m, each in enumerate(DOMAIN.rtmrs))} for n in range(4)),
        {"mrconfigid": b"\x01" * 48},
        {"mrowner": b"\x01" * 48},
        {"mrownerconfig": b"\x01" * 48},
        {"attributes": SEPT_VE_DISABLE | 1 << 63},
    ],
    ids=["MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3", "MRCONFIGID", "MROWNER", "MROWNERCONFIG", "attributes"],
)
def test_one_bit_of_it_makes_another_measurement(verifier: FakeVerifier, changes: dict[str, Any]) -> None:
    assert reason(worker_in(verifier, replace(DOMAIN, **changes)), naming(verifier)) == "measurement.unknown"


@pytest.mark.attack("C02")
def test_a_bundle_that_names_enclaves_believes_no_trust_domain_and_the_reverse(verifier: FakeVerifier) -> None:
    assert reason(worker_in(verifier), verifier.trust()) == "tee.other"
    assert reason(worker_in(verifier), verifier.trust(mrenclave=frozenset({DIGEST}))) == "tee.other"
    assert reason(FakeWorker(verifier), naming(verifier)) == "tee.other"
    same_digits = naming(verifier, td_measurement=frozenset({ENCLAVE.mrenclave.hex()}))
    assert reason(FakeWorker(verifier), same_digits) == "tee.other"


def test_a_bundle_that_names_nobody_believes_no_trust_domain(verifier: FakeVerifier) -> None:
    assert reason(worker_in(verifier), naming(verifier, td_measurement=None)) == "measurement.unpinned"


@pytest.mark.attack("C01")
@pytest.mark.attack("C09")
@pytest.mark.parametrize(
    ("domain", "says"),
    [
        (replace(DOMAIN, attributes=SEPT_VE_DISABLE | DEBUG), "enclave.debug"),
        (replace(DOMAIN, attributes=SEPT_VE_DISABLE | MIGRATABLE), "attributes.refused"),
        (replace(DOMAIN, attributes=0), "attributes.refused"),
    ],
    ids=["debug", "migratable", "#VE"],
)
def test_no_bundle_can_name_a_domain_that_lets_others_in(
    verifier: FakeVerifier, domain: TrustDomain, says: str
) -> None:
    named = naming(verifier, td_measurement=frozenset({domain.measurement.digest.hex()}))
    assert reason(worker_in(verifier, domain), named) == says


def test_a_result_that_says_another_thing_than_the_quote_is_not_believed(verifier: FakeVerifier) -> None:
    """The verifier calls another trust domain by the name that the bundle wants."""
    lied: list[AttestationResult] = []

    def lie(result: AttestationResult) -> AttestationResult:
        lied.append(replace(result, td=DOMAIN.measurement))
        return lied[-1]

    worker = worker_in(verifier, replace(DOMAIN, mrtd=b"\x01" * 48), spoil=lie)
    check_believable(lied[0], naming(verifier))
    assert reason(worker, naming(verifier)) == "findings.other"


def test_a_result_that_calls_an_enclave_a_trust_domain_is_not_believed(verifier: FakeVerifier) -> None:
    nothing: dict[str, Any] = {"mrenclave": "", "mrsigner": "", "isvprodid": 0, "isvsvn": 0}
    worker = FakeWorker(verifier, spoil=lambda result: replace(result, tee="tdx", td=DOMAIN.measurement, **nothing))
    assert reason(worker, naming(verifier)) == "tee.unexpected"


def test_kept_evidence_is_judged_by_the_same_pins(verifier: FakeVerifier) -> None:
    sample = good_evidence(domain=DOMAIN, audience=naming(verifier).verifier_id)

    def judged(trust: TrustBundle | None) -> Any:
        anchor = naming(verifier).anchor
        claims = sample.claims_bytes
        return judge(sample.quote, sample.collateral, anchor, Policy.default(), now(), claims_bytes=claims, trust=trust)

    assert judged(None).believed
    assert judged(naming(verifier)).believed
    refused = judged(verifier.trust())
    assert isinstance(refused.refusal, EvidenceRejected)
    assert refused.refusal.reason == "tee.other"
    assert f"--td-measurement {DIGEST}" in str(refused.refusal)


def test_a_bundle_survives_its_file(verifier: FakeVerifier) -> None:
    bundle = naming(verifier)
    found = TrustBundle.from_json(bundle.to_json())
    assert (found.td_measurement, found.mrenclave) == (frozenset({DIGEST}), None)
    assert (found.pins_trust_domains, found.pins_enclaves, found.pins_code) == (True, False, True)
