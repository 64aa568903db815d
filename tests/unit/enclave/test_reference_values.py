"""Reference values: what a policy takes as they are, believes exactly the build they are of, and sets never mix."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Appraisal, Evidence, Expected, appraise
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.enclave.kinds import VERIFIER, EnclaveSet
from cloister.enclave.reference_values import reference_values
from cloister.enclave.signers import KeySigner
from cloister.enclave.signing import sign
from cloister.errors import CloisterError, EvidenceRejected
from cloister_simulator.measurement import Measurement as Simulated
from fakes.built_enclave import Built
from fakes.sim import good_evidence, simulated_platform


def policy(rows: str) -> Policy:
    return Policy.from_toml(f'policy_id = "ward"\nversion = 1\n\n{rows}'.encode())


def refusal(*builds: Built, folder: Path, by_signer: bool = False) -> str:
    measured = [built.into(folder / str(n)) for n, built in enumerate(builds)]
    with pytest.raises(CloisterError) as refused:
        reference_values(measured, by_signer=by_signer)
    return refused.value.reason


def test_a_policy_takes_them_as_they_are(tmp_path: Path) -> None:
    old, new = (Built(threads=threads).into(tmp_path / str(threads)) for threads in (32, 48))
    found = policy(reference_values([new, old])).reference_values
    assert [value.mrenclave and value.mrenclave.hex() for value in found] == [new.mrenclave, old.mrenclave]
    assert all(value.mrsigner is None for value in found)


def test_by_signer_they_name_product_and_least_version(tmp_path: Path, signer: KeySigner) -> None:
    Built(isvsvn=3).into(tmp_path)
    signed = sign(tmp_path, signer)
    (value,) = policy(reference_values([signed], by_signer=True)).reference_values
    assert (value.mrsigner and value.mrsigner.hex(), value.isvprodid, value.minimum_isvsvn) == (signed.mrsigner, 1, 3)
    assert value.mrenclave is None


def test_no_signer_can_be_named_where_nobody_has_signed(tmp_path: Path) -> None:
    assert refusal(Built(), folder=tmp_path, by_signer=True) == "sigstruct.unsigned"


def test_a_debug_enclave_gets_none(tmp_path: Path, signer: KeySigner) -> None:
    built = Built(enclave_set=EnclaveSet.DEBUG, debug_key=signer)
    assert refusal(built, folder=tmp_path) == "enclave.not_believable"


@pytest.mark.parametrize("other", [Built(enclave_set=EnclaveSet.SIMULATED), Built(kind=VERIFIER)], ids=["set", "kind"])
def test_sets_and_kinds_are_not_mixed(tmp_path: Path, other: Built) -> None:
    assert refusal(Built(), other, folder=tmp_path) == "reference_values.mixed"


def test_a_debug_build_that_calls_itself_hardened_gets_none(tmp_path: Path) -> None:
    relabelled = replace(Built().into(tmp_path), debug=True)
    with pytest.raises(CloisterError) as refused:
        reference_values([relabelled])
    assert refused.value.reason == "enclave.not_believable"


def test_the_verifier_believes_that_build_and_no_other(tmp_path: Path) -> None:
    """Through the whole appraisal: simulated quotes that say one MRENCLAVE or the other."""
    wanted, other = (Built(threads=threads).into(tmp_path / str(threads)) for threads in (32, 48))
    rows = policy(reference_values([wanted]))
    platform, now = simulated_platform(), datetime.now(UTC)
    anchor, endorsed = TrustAnchor("simulated", platform.root_der()), Collateral.parse(platform.collateral())

    def appraised(mrenclave: str) -> Appraisal:
        sample = good_evidence(platform=platform, enclave=Simulated(mrenclave=bytes.fromhex(mrenclave)))
        evidence = Evidence(raw_quote=sample.quote, claims_bytes=sample.claims_bytes)
        return appraise(evidence, endorsed, rows, anchor, now, expect=Expected(nonce=sample.claims.nonce))

    assert appraised(wanted.mrenclave).mrenclave.hex() == wanted.mrenclave
    with pytest.raises(EvidenceRejected) as refused:
        appraised(other.mrenclave)
    assert refused.value.reason == "measurement.refused"
