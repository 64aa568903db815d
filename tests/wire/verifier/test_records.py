"""A record of the verifier leads to the call that it came of."""

from __future__ import annotations

import io
import json

import pytest

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.errors import EvidenceRejected
from cloister_simulator.platform import Platform
from fakes.logged import logged
from fakes.running_services import CALL_S, Running, WireWorker

__all__ = ["logged"]


async def test_a_refusal_s_record_and_log_line_name_the_same_call(
    logged: io.StringIO, verifier: Running, worker: WireWorker, platform: Platform
) -> None:
    platform.debug = True
    async with verifier.as_role("enrol") as enrol:
        with pytest.raises(EvidenceRejected):
            await worker.appraised(enrol)
    async with verifier.as_role("auditor") as auditor:
        listed = auditor.stub(VerifierStub).ListAppraisals(pb.ListAppraisalsRequest(), timeout=CALL_S)
        *_, record = [json.loads(entry.record) async for entry in listed]
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    (refused,) = [line for line in lines if line["event"] == "call.answered" and line["code"] == "PERMISSION_DENIED"]
    assert record["request"] == refused["request"] != ""
