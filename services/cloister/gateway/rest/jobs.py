"""Jobs over REST: sealed requests in base64 within JSON, by the calls of `cloister.api.v1.Jobs`.

Over the Open Inference Protocol there is nothing of the kind. One job may be submitted by itself, and is answered as
the call that it is; of several, each is accepted or refused for itself.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cloister.api.v1 import jobs_pb2
from cloister.errors import InvalidRequest, NotFound
from cloister.gateway.jobs.checked import NOT_SEALED
from cloister.gateway.jobs.messages import unknown_job
from cloister.gateway.rest.calls import RestCalls
from cloister.gateway.rest.infer_answer import JSON_TYPE
from cloister.gateway.rest.infer_request import list_of, members, text_of
from cloister.gateway.rest.strict_json import parse
from cloister.gateway.servicer import JOBS
from cloister.rpc.status import from_failure, told_to_wait

_PATH: Final = "/v2/models/{model}/jobs"
_SUBMISSION: Final = frozenset(
    {"job_id", "request", "not_after_ms", "key", "priority", "order_key", "result_ttl_s"},
)
_PLAIN: Final = frozenset({"inputs", "outputs", "parameters"})
_PRIORITIES: Final = {
    "normal": jobs_pb2.JOB_PRIORITY_NORMAL,
    "high": jobs_pb2.JOB_PRIORITY_HIGH,
    "low": jobs_pb2.JOB_PRIORITY_LOW,
}
_STATES: Final = {
    jobs_pb2.JOB_STATE_QUEUED: "queued",
    jobs_pb2.JOB_STATE_RUNNING: "running",
    jobs_pb2.JOB_STATE_ANSWERED: "answered",
    jobs_pb2.JOB_STATE_DEAD: "dead",
    jobs_pb2.JOB_STATE_CANCELLED: "cancelled",
}
_MAX_WAIT_MS: Final = 86_400_000
_MAX_NAME: Final = 256


def job_routes(calls: RestCalls) -> Sequence[Route]:
    """What there is at these paths; `calls` makes calls of requests."""
    here = _Endpoints(calls)
    return [
        Route(_PATH, here.submit, methods=["POST"]),
        Route(_PATH + "/{job}", here.show, methods=["GET"]),
        Route(_PATH + "/{job}", here.cancel, methods=["DELETE"]),
        Route(_PATH + "/{job}/forget", here.forget, methods=["POST"]),
    ]


class _Endpoints:
    """An endpoint each."""

    def __init__(self, calls: RestCalls) -> None:
        self._calls = calls

    async def submit(self, request: Request) -> Response:
        model, alone = _model(request), False

        async def message(body: bytes) -> bytes:
            nonlocal alone
            asked, alone = await self._calls.worked(len(body), _submissions, body)
            return _serialised(jobs_pb2.SubmitRequest(model_name=model, jobs=asked))

        raw, headers = await self._calls.call(request, "Submit", message, service=JOBS)
        jobs = jobs_pb2.SubmitResponse.FromString(raw).jobs
        if not alone:
            return _json({"jobs": [_submitted(each) for each in jobs]}, headers)
        if jobs[0].HasField("failure"):
            raise told_to_wait(from_failure(jobs[0].failure), jobs[0].retry_after_s)
        return _json(_submitted(jobs[0]), headers)

    async def show(self, request: Request) -> Response:
        model, job_id = _model(request), _job(request)
        wait_ms = _number(request, "wait_ms")
        if "forget" in request.query_params:
            raise InvalidRequest("a GET forgets nothing: POST to the job's path with /forget after it")

        async def message(_body: bytes) -> bytes:
            return _serialised(jobs_pb2.ResultRequest(model_name=model, job_id=job_id, wait_ms=wait_ms))

        raw, headers = await self._calls.call(request, "Result", message, service=JOBS)
        said = await self._calls.worked(len(raw), _job_text, jobs_pb2.ResultResponse.FromString(raw).job)
        self._calls.written(len(raw), len(said))
        return Response(said, 200, headers, JSON_TYPE)

    async def cancel(self, request: Request) -> Response:
        model, job_id = _model(request), _job(request)

        async def message(_body: bytes) -> bytes:
            return _serialised(jobs_pb2.CancelRequest(model_name=model, job_ids=[job_id]))

        raw, headers = await self._calls.call(request, "Cancel", message, service=JOBS)
        (job,) = jobs_pb2.CancelResponse.FromString(raw).jobs
        if not job.state:
            raise from_failure(job.failure)
        return Response(_job_text(job), 200, headers, JSON_TYPE)

    async def forget(self, request: Request) -> Response:
        model, job_id = _model(request), _job(request)

        async def message(_body: bytes) -> bytes:
            return _serialised(jobs_pb2.ForgetRequest(model_name=model, job_ids=[job_id]))

        _, headers = await self._calls.call(request, "Forget", message, service=JOBS)
        return _json({}, headers)


def _submissions(body: bytes) -> tuple[list[jobs_pb2.Submission], bool]:
    """What a body submits, and whether it is one job by itself."""
    said = parse(body)
    if isinstance(said, dict) and _PLAIN & said.keys():
        raise InvalidRequest(NOT_SEALED, reason="job.not_sealed")
    if isinstance(said, dict) and "jobs" not in said:
        return [_submission(said)], True
    return [_submission(each) for each in list_of(members(said, frozenset({"jobs"}), "the request"), "jobs")], False


def _submission(said: Any) -> jobs_pb2.Submission:
    given = members(said, _SUBMISSION, "a job")
    priority = _PRIORITIES.get(text_of(given, "priority", "a job", "normal"))
    if priority is None:
        raise InvalidRequest(f"a job: 'priority' is one of {', '.join(_PRIORITIES)}")
    try:
        return jobs_pb2.Submission(
            job_id=bytes.fromhex(text_of(given, "job_id", "a job")),
            request=base64.b64decode(text_of(given, "request", "a job"), validate=True),
            not_after_ms=_whole(given, "not_after_ms"),
            key=text_of(given, "key", "a job", ""),
            priority=priority,
            order_key=text_of(given, "order_key", "a job", ""),
            result_ttl_s=_whole(given, "result_ttl_s"),
        )
    except binascii.Error:
        raise InvalidRequest("a job: 'request' is not base64") from None
    except ValueError:
        raise InvalidRequest("a job: 'job_id' is not hexadecimal, or a number is out of range") from None


def _whole(given: Mapping[str, Any], name: str) -> int:
    value = given.get(name, 0)
    if type(value) is not int:
        raise InvalidRequest(f"a job: '{name}' is not a whole number")
    return value


def _submitted(job: jobs_pb2.Submitted) -> dict[str, Any]:
    if not job.HasField("failure"):
        return {"job_id": job.job_id.hex(), "existed": job.existed}
    said: dict[str, Any] = {"job_id": job.job_id.hex(), **_failure(job)}
    return {**said, "retry_after_s": job.retry_after_s} if job.retry_after_s else said


def _job_text(job: jobs_pb2.Job) -> bytes:
    said: dict[str, Any] = {
        "job_id": job.job_id.hex(),
        "state": _STATES.get(job.state, "unknown"),
        "attempts": job.attempts,
        "submitted_ms": job.submitted_ms,
    }
    if job.ended_ms:
        said |= {"ended_ms": job.ended_ms, "kept_until_ms": job.kept_until_ms}
    if job.response:
        said["response"] = base64.b64encode(job.response).decode()
    return msgspec.json.encode({**said, **_failure(job)} if job.HasField("failure") else said)


def _failure(job: jobs_pb2.Submitted | jobs_pb2.Job) -> dict[str, str]:
    """An error in the protocol's form."""
    return {"error": job.failure.message, "reason": job.failure.reason}


def _model(request: Request) -> str:
    name: str = request.path_params["model"]
    if not name.isascii() or len(name) > _MAX_NAME:
        raise NotFound("no such model")
    return name


def _job(request: Request) -> bytes:
    try:
        return bytes.fromhex(request.path_params["job"])
    except ValueError:
        raise unknown_job() from None


def _number(request: Request, name: str) -> int:
    """A number of the query; 0 where it is not there."""
    text = request.query_params.get(name, "0")
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or int(text) > _MAX_WAIT_MS:
        raise InvalidRequest(f"{name} is a whole number up to {_MAX_WAIT_MS}")
    return int(text)


def _serialised(message: Message) -> bytes:
    raw: bytes = message.SerializeToString()
    return raw


def _json(content: Any, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(content), 200, headers, JSON_TYPE)
