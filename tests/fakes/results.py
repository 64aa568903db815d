"""Attestation Results and release policies that are wholly good, for tests that break one thing in them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cloister.api.v1.provisioner_pb2 import ReleasePolicy, SignerRule
from cloister.ear import AttestationResult
from cloister.td_measurement import TdMeasurement

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
CLUSTER = "demo.cloister.internal"
INSTANCE = "0123456789abcdef" * 2
VERIFIER = f"spiffe://{CLUSTER}/verifier/main"
WORKER = f"spiffe://{CLUSTER}/worker/{INSTANCE}"
MRENCLAVE = "a1" * 32
MRSIGNER = "b2" * 32
MODEL = "iris"
TD = TdMeasurement(
    mrtd=b"\xd1" * 48,
    rtmrs=(b"\xd2" * 48, b"\xd3" * 48, b"\xd4" * 48, b"\xd5" * 48),
    mrconfigid=bytes(48),
    mrowner=bytes(48),
    mrownerconfig=bytes(48),
    attributes=1 << 28,
)


def good_result(**changes: Any) -> AttestationResult:
    """A result that every rule of `good_policy` accepts."""
    result = AttestationResult(
        issuer=VERIFIER,
        audience="provisioner",
        ear_id="ear-1",
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
        nonce=hashlib.sha256(b"nonce").digest(),
        role="worker",
        spiffe_id=WORKER,
        cluster=CLUSTER,
        instance=INSTANCE,
        tls_spki_sha256=hashlib.sha256(b"tls").digest(),
        receipt_key=hashlib.sha256(b"receipt").digest(),
        hpke_suite="x25519",
        hpke_public=hashlib.sha256(b"hpke").digest(),
        mrenclave=MRENCLAVE,
        mrsigner=MRSIGNER,
        isvprodid=7,
        isvsvn=3,
        debug=False,
        tcb_status="UpToDate",
        advisory_ids=(),
        tcb_evaluation=17,
        ppid_sha256="c3" * 32,
        collateral_sha256=hashlib.sha256(b"collateral").digest(),
        config_digest=hashlib.sha256(b"config").digest(),
        anchor="Intel SGX Root CA",
        simulated=False,
        hardware=2,
        executables=2,
        configuration=2,
        policy_id="default",
        policy_digest=hashlib.sha256(b"policy").digest(),
    )
    return replace(result, **changes)


def good_td_result(**changes: Any) -> AttestationResult:
    """The same of a trust domain, which `good_td_policy` accepts."""
    code = {"tee": "tdx", "mrenclave": "", "mrsigner": "", "isvprodid": 0, "isvsvn": 0, "td": TD}
    return good_result(**{**code, **changes})


def good_td_policy(**changes: Any) -> ReleasePolicy:
    """A policy that names `good_td_result`, and no enclave."""
    return good_policy(**{"mrenclave": [], "signers": [], "td_measurement": [TD.digest.hex()], **changes})


def good_policy(**changes: Any) -> ReleasePolicy:
    """A policy that names `good_result` by measurement and by signer."""
    fields: dict[str, Any] = {
        "cluster": CLUSTER,
        "model_name": MODEL,
        "version": 1,
        "mrenclave": [MRENCLAVE],
        "signers": [SignerRule(mrsigner=MRSIGNER, isvprodid=7, min_isvsvn=3)],
        "tcb_statuses": ["UpToDate", "SWHardeningNeeded"],
        "lease_s": 600,
        "min_model_version": 2,
    }
    return ReleasePolicy(**{**fields, **changes})


class Clock:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def pass_s(self, seconds: float) -> None:
        """Let this much time go by."""
        self.seconds += seconds
