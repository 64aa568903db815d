"""What a client asks to have kept, held against what a gateway can know of it: everything but the content.

The content is sealed: whether it fits the model, the worker says, inside the answer. Its header is not read here
either: a client that writes another id or time beside it than into it has a job that no worker answers.
"""

from __future__ import annotations

import re
from typing import Final

from cloister.api.v1.jobs_pb2 import JobPriority, Submission
from cloister.errors import InvalidRequest
from cloister.gateway.jobs.job import JOB_ID_BYTES, Job, Priority
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.wire import read_route

MAX_SUBMISSIONS: Final = 1024
"""In one call."""
_WORDS: Final = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?")
_PRIORITIES: Final = {
    JobPriority.JOB_PRIORITY_NORMAL: Priority.NORMAL,
    JobPriority.JOB_PRIORITY_HIGH: Priority.HIGH,
    JobPriority.JOB_PRIORITY_LOW: Priority.LOW,
}
NOT_SEALED: Final = (
    "only sealed jobs are taken: what waits lies in Redis, and nobody there may read it. Seal it to the model's job key"
    " (parameter cloister-seal=job-v1), as the SDK's client.jobs does"
)


def checked_job(asked: Submission, model_name: str, tenant: str, settings: JobsSettings, now_ms: int) -> Job:
    """One submission as a job.

    Args:
        asked: As the client wrote it.
        model_name: Of the call that it came in.
        tenant: Whose it is.
        settings: How large and how long it may be.
        now_ms: Unix time.

    Raises:
        InvalidRequest: It cannot be kept; the reason says what is wrong with it.
    """
    check_id(asked.job_id)  # 1 it has a name
    request = asked.request
    if len(request) > settings.max_job_bytes:  # 2 it is not too large
        most = f"this job has {len(request)} bytes, and at most {settings.max_job_bytes} are taken: send less in each"
        raise InvalidRequest(most, reason="job.too_large")
    route = read_route(request)  # 3 it is a request
    if not route.job:  # 4 that we cannot read
        raise InvalidRequest(NOT_SEALED, reason="job.not_sealed")
    if route.model_name != model_name:  # 5 for this model
        raise InvalidRequest("the job is for another model than the call", reason="job.other_model")
    life_ms = asked.not_after_ms - now_ms
    if life_ms <= 0:  # 6 it can still be answered
        raise InvalidRequest("the job's time has passed already", reason="job.expired")
    if life_ms > settings.job_life_s * 1000:  # 7 as long as its key is there
        raise InvalidRequest(f"a job may wait for {settings.job_life_s} s at most", reason="job.too_long")
    priority = _PRIORITIES.get(asked.priority)
    if priority is None:  # 8 what it asks for is something that there is
        raise InvalidRequest("there is no such priority", reason="job.priority_unknown")
    if asked.result_ttl_s > settings.result_ttl_s:
        raise InvalidRequest(f"what becomes of a job is kept for {settings.result_ttl_s} s at most", reason="job.ttl")
    for name, word in (("key", asked.key), ("order_key", asked.order_key)):
        if word and not _WORDS.fullmatch(word):
            raise InvalidRequest(f"{name} is at most 128 printable ASCII characters", reason="job.key_invalid")
    return Job(
        job_id=asked.job_id,
        tenant=tenant,
        model_name=model_name,
        request=request,
        submitted_ms=now_ms,
        not_after_ms=asked.not_after_ms,
        key=asked.key,
        priority=priority,
        order_key=asked.order_key,
        result_ttl_s=asked.result_ttl_s or settings.result_ttl_s,
    )


def check_id(job_id: bytes) -> None:
    """Raise InvalidRequest for what names no job."""
    if len(job_id) != JOB_ID_BYTES:
        raise InvalidRequest(f"a job's id is {JOB_ID_BYTES} bytes", reason="job.id_invalid")
