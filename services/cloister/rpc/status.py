"""One table between the errors of the house and gRPC statuses, read both ways.

The class, the reason and the step travel as `google.rpc.ErrorInfo` (domain `cloister`) in `grpc-status-details-bin`, so
the caller raises the class that the server raised; when to come again travels beside it as `google.rpc.RetryInfo`, as
other gRPC libraries know it. Whatever is not ours becomes INTERNAL with a fixed text and the
request id. What a peer sends is checked before it is believed: known class names, short reasons, capped messages.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from cloister import errors
from cloister.api.v1 import worker_pb2
from cloister.errors import CloisterError, EvidenceRejected, InternalError, Overloaded, SealBroken

DOMAIN: Final = "cloister"
DETAILS_KEY: Final = "grpc-status-details-bin"

_CODES: Final[Mapping[type[BaseException], grpc.StatusCode]] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.SealBroken: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    errors.EvidenceRejected: grpc.StatusCode.PERMISSION_DENIED,
    errors.KeyRefused: grpc.StatusCode.PERMISSION_DENIED,
    errors.LogBroken: grpc.StatusCode.DATA_LOSS,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotReady: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ChallengeExpired: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.InternalError: grpc.StatusCode.INTERNAL,
    TimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
    asyncio.CancelledError: grpc.StatusCode.CANCELLED,
}
_BY_NAME: Final = {kind.__name__: kind for kind in _CODES if issubclass(kind, CloisterError)}
# What a bare status means when no ErrorInfo of ours came with it: gRPC itself spoke, or a stranger's server.
_BY_CODE: Final[Mapping[grpc.StatusCode, tuple[type[CloisterError], str]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (errors.InvalidRequest, "request.invalid"),
    grpc.StatusCode.OUT_OF_RANGE: (errors.InvalidRequest, "request.invalid"),
    grpc.StatusCode.UNIMPLEMENTED: (errors.InvalidRequest, "method.unknown"),
    grpc.StatusCode.UNAUTHENTICATED: (errors.Unauthenticated, "identity.unknown"),
    grpc.StatusCode.PERMISSION_DENIED: (errors.NotAllowed, "role.not_allowed"),
    grpc.StatusCode.NOT_FOUND: (errors.NotFound, "name.unknown"),
    grpc.StatusCode.ALREADY_EXISTS: (errors.AlreadyExists, "name.taken"),
    grpc.StatusCode.FAILED_PRECONDITION: (errors.NotReady, "state.not_ready"),
    grpc.StatusCode.ABORTED: (errors.ChallengeExpired, "challenge.expired"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (errors.Overloaded, "queue.full"),
    grpc.StatusCode.UNAVAILABLE: (errors.Unavailable, "peer.unavailable"),
    grpc.StatusCode.CANCELLED: (errors.Unavailable, "call.cancelled"),
}

HTTP_STATUSES: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""What the same error is over HTTP; 500 for all others."""
_HTTP_REASONS: Final[Mapping[str, int]] = {
    "path.unknown": 404,
    "method.not_allowed": 405,
    "request.too_large": 413,
    "message.too_large": 413,
    "media.unsupported": 415,
}
"""Where HTTP has a word for what is one of several things to gRPC."""

_REASON: Final = re.compile(r"[a-z0-9_]{1,40}(?:\.[a-z0-9_]{1,40}){0,3}")
_MAX_MESSAGE: Final = 500
MAX_RETRY_AFTER_S: Final = 60.0
"""A peer that says a longer one is believed up to here."""
_TOO_LARGE: Final = re.compile(r"message (?:is )?larger than max", re.IGNORECASE)
_LOST: Final = "Stream removed"
"""How gRPC begins what it says of a stream whose connection broke, as where a TLS record does not authenticate."""
_CUT: Final = "Internal error from Core"
"""What gRPC says where a connection broke under the message that was being written."""
_INTERNAL_TEXT: Final = "internal error"
_DEADLINE_TEXT: Final = "the deadline passed"


def to_status(error: BaseException, *, request_id: str = "") -> tuple[grpc.StatusCode, str, bytes]:
    """What the caller is told about `error`.

    Args:
        error: Whatever a handler raised. A group that holds nothing but errors of ours speaks with its first one.
        request_id: Finds the rest in our log; part of the text for everything that is not ours.

    Returns:
        Code, message, and a serialised `google.rpc.Status` for the trailer `grpc-status-details-bin`.
    """
    told = told_as(error, request_id=request_id)
    code = code_of(told)
    message = str(told)[:_MAX_MESSAGE]
    info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=reason_of(told))
    info.metadata["error"] = _name(told)
    if isinstance(told, EvidenceRejected) and told.step:
        info.metadata["step"] = str(told.step)
    status = status_pb2.Status(code=code.value[0], message=message)
    status.details.add().Pack(info)
    if isinstance(told, Overloaded) and told.retry_after_s > 0:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(max(1, int(min(told.retry_after_s, MAX_RETRY_AFTER_S) * 1000)))
        status.details.add().Pack(retry)
    return code, message, status.SerializeToString()


def told_as(error: BaseException, *, request_id: str = "") -> CloisterError | TimeoutError | asyncio.CancelledError:
    """`error` itself where it may be told to a peer, and an InternalError with a fixed text where it may not."""
    if isinstance(error, BaseExceptionGroup):
        leaves = list(_leaves(error))
        strangers = [leaf for leaf in leaves if not isinstance(leaf, (CloisterError, TimeoutError))]
        return told_as((strangers or leaves)[0], request_id=request_id)
    if isinstance(error, CloisterError):
        return error
    if isinstance(error, TimeoutError):
        return TimeoutError(_DEADLINE_TEXT)
    if isinstance(error, asyncio.CancelledError):
        return asyncio.CancelledError("the call was cancelled")
    if isinstance(error, grpc.RpcError):
        return from_rpc_error(error)
    return InternalError(f"{_INTERNAL_TEXT}; request {request_id}" if request_id else _INTERNAL_TEXT)


def code_of(error: BaseException) -> grpc.StatusCode:
    """The status of an error, or of the nearest class above it that has one; INTERNAL for all others."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return grpc.StatusCode.INTERNAL


def http_status_of(error: BaseException) -> int:
    """The HTTP status of an error: that of its reason where HTTP knows it, else that of its gRPC status."""
    code = code_of(error)
    found = _HTTP_REASONS.get(reason_of(error)) if code is grpc.StatusCode.INVALID_ARGUMENT else None
    return found or HTTP_STATUSES.get(code, 500)


def reason_of(error: BaseException) -> str:
    """The stable reason of an error, also of those that are not ours."""
    if isinstance(error, CloisterError):
        return error.reason
    if isinstance(error, TimeoutError):
        return "deadline.exceeded"
    if isinstance(error, asyncio.CancelledError):
        return "call.cancelled"
    return InternalError.default_reason


def from_rpc_error(error: grpc.RpcError) -> CloisterError | TimeoutError:
    """The error that a peer raised, or what gRPC's own complaint means here.

    Args:
        error: From `grpc.aio` or from a synchronous call; one without a status is taken for a lost connection.
    """
    code = error.code() if callable(getattr(error, "code", None)) else grpc.StatusCode.UNAVAILABLE
    message = (error.details() or "") if callable(getattr(error, "details", None)) else ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimeoutError(_DEADLINE_TEXT)
    info, retry_after_s = _details(error)
    if info is not None:
        rebuilt = _rebuilt(info.metadata["error"], info.reason, message, info.metadata["step"])
        return told_to_wait(rebuilt, retry_after_s)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE.search(message):
        return errors.InvalidRequest("the message is larger than allowed", reason="message.too_large")
    if (code is grpc.StatusCode.UNKNOWN and message.startswith(_LOST)) or message == _CUT:
        return errors.Unavailable("the connection was lost")
    kind, reason = _BY_CODE.get(code, (InternalError, InternalError.default_reason))
    return told_to_wait(_raised(kind, message or code.name.lower(), reason), retry_after_s)


def told_by_peer(error: grpc.RpcError) -> bool:
    """Whether a peer of ours said so itself; else gRPC did, or somebody between."""
    return _details(error)[0] is not None


E = TypeVar("E", bound=BaseException)


def told_to_wait(error: E, retry_after_s: float) -> E:
    """`error` with what a peer said of when to come again, within `MAX_RETRY_AFTER_S`; only `Overloaded` keeps it."""
    if isinstance(error, Overloaded) and retry_after_s > 0:
        error.retry_after_s = min(retry_after_s, MAX_RETRY_AFTER_S)
    return error


def failure_of(error: BaseException, *, request_id: str = "") -> worker_pb2.Failure:
    """An error as it travels on the worker link and inside sealed answers."""
    told = told_as(error, request_id=request_id)
    return worker_pb2.Failure(error=_name(told), reason=reason_of(told), message=str(told)[:_MAX_MESSAGE])


def from_failure(failure: worker_pb2.Failure) -> CloisterError | TimeoutError:
    """The error that a worker put into `failure`; an unknown class becomes InternalError."""
    return _rebuilt(failure.error, failure.reason, failure.message, "")


def _rebuilt(name: str, reason: str, message: str, step: str) -> CloisterError | TimeoutError:
    if name == TimeoutError.__name__:
        return TimeoutError(_DEADLINE_TEXT)
    kind = _BY_NAME.get(name, errors.Unavailable if name == asyncio.CancelledError.__name__ else InternalError)
    rebuilt = _raised(kind, message, reason if _REASON.fullmatch(reason) else kind.default_reason)
    if isinstance(rebuilt, EvidenceRejected) and step.isascii() and step.isdigit() and len(step) <= 3:
        rebuilt.step = int(step)
    return rebuilt


def _raised(kind: type[CloisterError], message: str, reason: str) -> CloisterError:
    if kind is SealBroken:  # one class, one message
        return SealBroken(reason=reason)
    return kind(message[:_MAX_MESSAGE], reason=reason)


def _name(error: BaseException) -> str:
    for kind in type(error).__mro__:
        if kind in _CODES:
            return kind.__name__
    return InternalError.__name__


def _details(error: grpc.RpcError) -> tuple[error_details_pb2.ErrorInfo | None, float]:
    """Our ErrorInfo, and the seconds of a RetryInfo, whoever wrote it; None and 0 where there is none."""
    for key, value in _trailers(error):
        if key == DETAILS_KEY and isinstance(value, bytes):
            return _unpacked(value)
    return None, 0.0


def _trailers(error: grpc.RpcError) -> Iterable[tuple[str, str | bytes]]:
    read = getattr(error, "trailing_metadata", None)
    return (read() or ()) if callable(read) else ()


def _unpacked(raw: bytes) -> tuple[error_details_pb2.ErrorInfo | None, float]:
    found: error_details_pb2.ErrorInfo | None = None
    retry_after_s = 0.0
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    try:
        for detail in status_pb2.Status.FromString(raw).details:
            if found is None and detail.Unpack(info) and info.domain == DOMAIN:
                found = info
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    except DecodeError:
        return found, 0.0
    return found, retry_after_s


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for inner in group.exceptions:
        if isinstance(inner, BaseExceptionGroup):
            yield from _leaves(inner)
        else:
            yield inner
