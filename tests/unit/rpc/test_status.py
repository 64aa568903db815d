"""The status table, both ways, and what is believed of a peer's word."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from cloister import errors
from cloister.api.v1 import worker_pb2
from cloister.rpc.status import DETAILS_KEY, failure_of, from_failure, from_rpc_error, to_status

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not errors.CloisterError]


def received(code: grpc.StatusCode, message: str, details: bytes | None = None) -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata(*([(DETAILS_KEY, details)] if details is not None else []))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, message)


def test_every_class_has_a_status() -> None:
    codes = {kind.__name__: to_status(kind("x") if kind is not errors.SealBroken else kind())[0].name for kind in KINDS}
    assert codes == {
        "InvalidRequest": "INVALID_ARGUMENT",
        "SealBroken": "INVALID_ARGUMENT",
        "Unauthenticated": "UNAUTHENTICATED",
        "NotAllowed": "PERMISSION_DENIED",
        "EvidenceRejected": "PERMISSION_DENIED",
        "KeyRefused": "PERMISSION_DENIED",
        "LogBroken": "DATA_LOSS",
        "NotFound": "NOT_FOUND",
        "AlreadyExists": "ALREADY_EXISTS",
        "NotReady": "FAILED_PRECONDITION",
        "ChallengeExpired": "ABORTED",
        "Overloaded": "RESOURCE_EXHAUSTED",
        "Unavailable": "UNAVAILABLE",
        "InternalError": "INTERNAL",
    }


@pytest.mark.parametrize("kind", KINDS)
@given(message=st.text(max_size=400), reason=st.from_regex(r"[a-z_]{1,20}\.[a-z_]{1,20}", fullmatch=True))
def test_an_error_comes_back_as_itself(kind: type[errors.CloisterError], message: str, reason: str) -> None:
    code, text, details = to_status(kind(message, reason=reason))
    back = from_rpc_error(received(code, text, details))
    assert type(back) is kind
    assert isinstance(back, errors.CloisterError)
    assert back.reason == reason
    assert str(back) == (message if kind is not errors.SealBroken else str(errors.SealBroken()))
    assert type(from_failure(failure_of(kind(message, reason=reason)))) is kind


def test_the_details_are_a_google_status_with_an_error_info() -> None:
    _, _, details = to_status(errors.EvidenceRejected("too old", step=6))
    status = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    assert status.code == code_pb2.PERMISSION_DENIED
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("cloister", "evidence.rejected")
    assert dict(info.metadata) == {"error": "EvidenceRejected", "step": "6"}


@pytest.mark.parametrize(("said_s", "heard_s"), [(0.25, 0.25), (0.0, 0.0), (-1.0, 0.0), (1e9, 60.0), (1e-9, 0.001)])
def test_when_to_come_again_travels_and_is_bounded(said_s: float, heard_s: float) -> None:
    code, text, details = to_status(errors.Overloaded("full", reason="queue.full", retry_after_s=said_s))
    back = from_rpc_error(received(code, text, details))
    assert isinstance(back, errors.Overloaded)
    assert (back.reason, back.retry_after_s) == ("queue.full", heard_s)


@pytest.mark.parametrize("seconds", [-5, 10**11, 0])
def test_what_a_stranger_says_of_when_to_come_again_is_believed_within_bounds(seconds: int) -> None:
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED)
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds = seconds
    status.details.add().Pack(retry)
    back = from_rpc_error(received(grpc.StatusCode.RESOURCE_EXHAUSTED, "", status.SerializeToString()))
    assert isinstance(back, errors.Overloaded)
    assert 0 <= back.retry_after_s <= 60


def test_only_an_overload_says_when_to_come_again() -> None:
    info, retry = error_details_pb2.ErrorInfo(domain="cloister", reason="name.unknown"), error_details_pb2.RetryInfo()
    info.metadata["error"] = "NotFound"
    retry.retry_delay.seconds = 1
    status = status_pb2.Status(code=code_pb2.NOT_FOUND)
    for detail in (retry, info):
        status.details.add().Pack(detail)
    back = from_rpc_error(received(grpc.StatusCode.NOT_FOUND, "", status.SerializeToString()))
    assert type(back) is errors.NotFound
    assert not hasattr(back, "retry_after_s")


def test_a_subclass_speaks_as_the_class_we_know() -> None:
    class Narrower(errors.NotFound):
        pass

    code, _, details = to_status(Narrower("x"))
    assert code is grpc.StatusCode.NOT_FOUND
    assert type(from_rpc_error(received(code, "x", details))) is errors.NotFound


def test_an_unknown_error_says_nothing_of_itself() -> None:
    code, message, details = to_status(KeyError("s3cret"), request_id="ab-1")
    assert (code, message) == (grpc.StatusCode.INTERNAL, "internal error; request ab-1")
    assert b"s3cret" not in details
    assert b"KeyError" not in details
    assert "s3cret" not in str(failure_of(KeyError("s3cret")))


def test_timeouts_and_cancellation() -> None:
    assert to_status(TimeoutError("at 10.0.0.1"))[:2] == (grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed")
    assert to_status(asyncio.CancelledError())[0] is grpc.StatusCode.CANCELLED
    assert isinstance(from_rpc_error(received(grpc.StatusCode.DEADLINE_EXCEEDED, "")), TimeoutError)
    assert isinstance(from_failure(failure_of(TimeoutError())), TimeoutError)


def test_a_group_speaks_with_its_first_error_unless_a_stranger_is_in_it() -> None:
    ours = ExceptionGroup("tasks", [ExceptionGroup("inner", [errors.Overloaded("full")]), errors.NotReady("later")])
    assert to_status(ours)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    mixed = ExceptionGroup("tasks", [errors.Overloaded("full"), ValueError("s3cret")])
    assert to_status(mixed)[:2] == (grpc.StatusCode.INTERNAL, "internal error")


@pytest.mark.parametrize(
    ("code", "message", "kind", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", errors.Unavailable, "peer.unavailable"),
        (grpc.StatusCode.CANCELLED, "", errors.Unavailable, "call.cancelled"),
        (grpc.StatusCode.UNIMPLEMENTED, "", errors.InvalidRequest, "method.unknown"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", errors.Overloaded, "queue.full"),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "SERVER: Received message larger than max (2 vs. 1)",
            errors.InvalidRequest,
            "message.too_large",
        ),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "CLIENT: Sent message larger than max (2 vs. 1)",
            errors.InvalidRequest,
            "message.too_large",
        ),
        (
            grpc.StatusCode.UNKNOWN,
            "Stream removed (Unwrap failed (TSI_DATA_CORRUPTED))",
            errors.Unavailable,
            errors.Unavailable.default_reason,
        ),
        (
            grpc.StatusCode.INTERNAL,
            "Internal error from Core",
            errors.Unavailable,
            errors.Unavailable.default_reason,
        ),
        (grpc.StatusCode.UNKNOWN, "boom", errors.InternalError, "internal"),
        (grpc.StatusCode.DATA_LOSS, "boom", errors.InternalError, "internal"),
        (grpc.StatusCode.PERMISSION_DENIED, "", errors.NotAllowed, "role.not_allowed"),
    ],
)
def test_a_bare_status_has_a_meaning(
    code: grpc.StatusCode, message: str, kind: type[errors.CloisterError], reason: str
) -> None:
    error = from_rpc_error(received(code, message))
    assert type(error) is kind
    assert isinstance(error, errors.CloisterError)
    assert error.reason == reason


def test_an_error_without_a_status_is_a_lost_connection() -> None:
    assert isinstance(from_rpc_error(grpc.RpcError()), errors.Unavailable)


def forged(**fields: str) -> bytes:
    info = error_details_pb2.ErrorInfo(domain=fields.pop("domain", "cloister"), reason=fields.pop("reason", "a.b"))
    info.metadata.update(fields)
    status = status_pb2.Status()
    status.details.add().Pack(info)
    return status.SerializeToString()


@pytest.mark.parametrize("name", ["SystemExit", "CloisterError", "__class__", "", "Exception", "x" * 10_000])
def test_a_class_that_is_not_in_the_table_is_not_raised(name: str) -> None:
    error = from_rpc_error(received(grpc.StatusCode.NOT_FOUND, "x", forged(error=name)))
    assert type(error) is errors.InternalError
    assert type(from_failure(worker_pb2.Failure(error=name, reason="a.b", message="x"))) is errors.InternalError


def test_another_domains_details_are_not_ours() -> None:
    error = from_rpc_error(
        received(grpc.StatusCode.NOT_FOUND, "x", forged(domain="googleapis.com", error="KeyRefused"))
    )
    assert type(error) is errors.NotFound


@pytest.mark.parametrize("reason", ["", "UPPER", "a b", "a\nb", "x" * 1000, "a.b.c.d.e", "\x1b[31m"])
def test_a_reason_that_is_none_is_replaced(reason: str) -> None:
    error = from_rpc_error(received(grpc.StatusCode.NOT_FOUND, "x", forged(error="NotFound", reason=reason)))
    assert isinstance(error, errors.NotFound)
    assert error.reason == "name.unknown"


@pytest.mark.parametrize("step", ["-1", "6.5", "999999", "six", "٦", ""])
def test_a_step_that_is_none_is_zero(step: str) -> None:
    error = from_rpc_error(received(grpc.StatusCode.NOT_FOUND, "x", forged(error="EvidenceRejected", step=step)))
    assert isinstance(error, errors.EvidenceRejected)
    assert error.step == 0


def test_a_message_is_capped() -> None:
    assert len(str(from_rpc_error(received(grpc.StatusCode.NOT_FOUND, "x" * 100_000)))) == 500
    assert len(to_status(errors.NotFound("x" * 100_000))[1]) == 500


@given(st.binary(max_size=200))
def test_any_bytes_in_the_trailer_give_an_error_of_ours(raw: bytes) -> None:
    error = from_rpc_error(received(grpc.StatusCode.NOT_FOUND, "x", raw))
    assert isinstance(error, (errors.CloisterError, TimeoutError))
