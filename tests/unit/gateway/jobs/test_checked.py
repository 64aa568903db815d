"""What is refused of a submission before it is kept; each time by one thing that is wrong with a good one."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from cloister.api.v1 import jobs_pb2
from cloister.errors import InvalidRequest
from cloister.gateway.jobs.checked import checked_job
from cloister.gateway.jobs.job import Priority
from cloister.gateway.jobs.settings import JobsSettings
from fakes.gateway_parts import A, infer_request
from fakes.running_jobs import job_envelope

NOW_MS = 1_800_000_000_000
LIMITS = JobsSettings(max_job_bytes=200, job_life_s=3600, result_ttl_s=600)


def good(**changes: Any) -> jobs_pb2.Submission:
    fields: dict[str, Any] = {
        "job_id": secrets.token_bytes(16),
        "request": job_envelope(),
        "not_after_ms": NOW_MS + 60_000,
        "key": "row 17",
        "order_key": "patient-3",
        "priority": jobs_pb2.JOB_PRIORITY_LOW,
        "result_ttl_s": 60,
    }
    return jobs_pb2.Submission(**{**fields, **changes})


def test_a_good_one_becomes_a_job_of_its_tenant() -> None:
    asked = good()
    job = checked_job(asked, "tiny", "radiology", LIMITS, NOW_MS)
    assert (job.job_id, job.tenant, job.model_name) == (asked.job_id, "radiology", "tiny")
    assert (job.request, job.submitted_ms, job.not_after_ms) == (asked.request, NOW_MS, NOW_MS + 60_000)
    assert (job.key, job.order_key, job.priority, job.result_ttl_s) == ("row 17", "patient-3", Priority.LOW, 60)


def test_what_becomes_of_it_is_kept_as_long_as_the_gateway_says_where_its_client_does_not() -> None:
    assert checked_job(good(result_ttl_s=0), "tiny", "radiology", LIMITS, NOW_MS).result_ttl_s == 600


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"job_id": b"15 bytes, not 16"[:15]}, "job.id_invalid"),
        ({"job_id": b""}, "job.id_invalid"),
        ({"request": job_envelope(b"x" * 300)}, "job.too_large"),
        ({"request": b"\xff"}, "request.invalid"),
        ({"request": infer_request()}, "job.not_sealed"),
        ({"request": infer_request(workers=[A])}, "job.not_sealed"),
        ({"request": job_envelope(seal="")}, "job.not_sealed"),
        ({"request": job_envelope(seal="job-v2")}, "request.invalid"),
        ({"request": job_envelope(model="other")}, "job.other_model"),
        ({"not_after_ms": NOW_MS}, "job.expired"),
        ({"not_after_ms": -1}, "job.expired"),
        ({"not_after_ms": NOW_MS + 3_600_001}, "job.too_long"),
        ({"priority": 7}, "job.priority_unknown"),
        ({"result_ttl_s": 601}, "job.ttl"),
        ({"key": "x" * 129}, "job.key_invalid"),
        ({"key": "umlaut ä"}, "job.key_invalid"),
        ({"key": "two\nlines"}, "job.key_invalid"),
        ({"order_key": "ends with a space "}, "job.key_invalid"),
        ({"order_key": "x" * 129}, "job.key_invalid"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_is_wrong_with_it_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked_job(good(**changes), "tiny", "radiology", LIMITS, NOW_MS)
    assert caught.value.reason == reason


def test_a_refusal_of_what_is_not_sealed_says_what_to_do() -> None:
    with pytest.raises(InvalidRequest, match=r"only sealed jobs are taken.*job-v1"):
        checked_job(good(request=infer_request()), "tiny", "radiology", LIMITS, NOW_MS)
