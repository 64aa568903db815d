"""Kept receipts: they hold as they are, and in no other way."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cloister.api.v1.seal_pb2 import ReceiptBundle
from cloister.appraisal.anchors import INTEL_SGX
from cloister.client import Client, load_receipt, save_receipt, verify_receipt
from cloister.errors import CloisterError, EvidenceRejected, NotFound
from fakes.serving import MODEL, FakeGateway, FakeVerifier, FakeWorker
from fakes.sim import ENCLAVE

VERIFIER = FakeVerifier()


@pytest.fixture
async def kept() -> ReceiptBundle:
    client = Client(cast(Any, FakeGateway(FakeWorker(VERIFIER))), VERIFIER.trust())
    answer = await client.infer(MODEL, {"x": np.ones((1, 2), np.float32)})
    assert answer.receipt is not None
    return answer.receipt


async def test_a_receipt_survives_its_file(kept: ReceiptBundle, tmp_path: Path) -> None:
    save_receipt(kept, tmp_path / "answer.receipt")
    found = verify_receipt(load_receipt(tmp_path / "answer.receipt"), VERIFIER.trust())
    assert found.body.model_name == MODEL
    assert found.simulated
    np.testing.assert_array_equal(found.outputs["y"], np.full((1, 2), 2.0, np.float32))


async def test_a_receipt_is_its_owners_alone_to_read(kept: ReceiptBundle, tmp_path: Path) -> None:
    path = tmp_path / "answer.receipt"
    for _ in range(2):
        save_receipt(kept, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)  # as an earlier release left it


@pytest.mark.attack("J12")
async def test_no_changed_byte_goes_unnoticed(kept: ReceiptBundle, tmp_path: Path) -> None:
    path = tmp_path / "changed.receipt"
    raw = kept.SerializeToString(deterministic=True)
    trust = VERIFIER.trust()
    for position in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(CloisterError):
            verify_receipt(load_receipt(path), trust)


@pytest.mark.attack("J12")
async def test_parts_of_two_receipts_do_not_fit(kept: ReceiptBundle) -> None:
    client = Client(cast(Any, FakeGateway(FakeWorker(VERIFIER))), VERIFIER.trust())
    other = (await client.infer(MODEL, {"x": np.zeros((1, 2), np.float32)})).receipt
    assert other is not None
    for field in ("request", "response", "attestation_result"):
        mixed = ReceiptBundle()
        mixed.CopyFrom(kept)
        setattr(mixed, field, getattr(other, field))
        with pytest.raises(CloisterError):
            verify_receipt(mixed, VERIFIER.trust())


async def test_another_trust_bundle_believes_another_verifier(kept: ReceiptBundle) -> None:
    for trust in (FakeVerifier().trust(), VERIFIER.trust(anchor=INTEL_SGX), VERIFIER.trust(mrenclave={"ab" * 32})):
        with pytest.raises(EvidenceRejected):
            verify_receipt(kept, trust)


async def test_a_receipt_is_of_code_that_the_trust_bundle_pins(kept: ReceiptBundle) -> None:
    policy = f'policy_id = "ours"\n[[reference_values]]\nmrenclave = "{ENCLAVE.mrenclave.hex()}"\n'
    assert verify_receipt(kept, VERIFIER.trust(mrenclave=None, policy_toml=policy)).body.model_name == MODEL
    other = policy.replace(ENCLAVE.mrenclave.hex(), "ab" * 32)
    for changes, reason in (
        ({"mrenclave": None}, "measurement.unpinned"),
        ({"mrenclave": None, "policy_toml": other}, "measurement.unknown"),
        ({"policy_toml": other}, "measurement.unknown"),
    ):
        with pytest.raises(EvidenceRejected) as refused:
            verify_receipt(kept, VERIFIER.trust(**changes))
        assert refused.value.reason == reason


@pytest.mark.attack("J12")
async def test_a_receipt_holds_only_within_the_life_of_its_result() -> None:
    worker = FakeWorker(VERIFIER)
    client = Client(cast(Any, FakeGateway(worker)), VERIFIER.trust())
    answer = await client.infer(MODEL, {"x": np.ones((1, 2), np.float32)})
    assert answer.receipt is not None
    ended = replace(
        worker.result,
        issued_at=worker.result.issued_at.replace(year=2020),
        expires_at=worker.result.expires_at.replace(year=2020),
    )
    answer.receipt.attestation_result = VERIFIER.token(ended)
    with pytest.raises(EvidenceRejected) as refused:
        verify_receipt(answer.receipt, VERIFIER.trust())
    assert refused.value.reason == "token.expired"


def test_files_that_are_no_receipts(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_receipt(tmp_path / "answer.receipt")
    (tmp_path / "rubbish").write_bytes(b"\xff\xff\xff\xff")
    with pytest.raises(EvidenceRejected):
        load_receipt(tmp_path / "rubbish")
    (tmp_path / "empty").touch()
    with pytest.raises(EvidenceRejected):
        verify_receipt(load_receipt(tmp_path / "empty"), VERIFIER.trust())
