"""What happens around every call that a server answers: who, may they, how long, and what they are told.

Each handler is wrapped once, when it is registered; that is cheaper than an interceptor and sees the call earlier: a
peer is identified and its role checked before the first byte of its request is read. All unary requests are served as
streams of one message, which is the same on the wire and lets reading have a deadline of its own (against bodies that
drip), and lets bytes that do not parse be told apart from a broken handler.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio

from cloister.errors import InvalidRequest, NotAllowed, Unauthenticated
from cloister.kit import log, traces
from cloister.kit.overdue import Overdue
from cloister.kit.shares import Shares
from cloister.rpc.identity import PeerIdentity, peer_identity
from cloister.rpc.spiffe import ROLES
from cloister.rpc.status import DETAILS_KEY, code_of, reason_of, to_status, told_as

LARGE_BYTES: Final = 16 << 10
"""Smaller answers that a peer does not read are bounded well enough by the number of its calls."""
_MAX_METHODS: Final = 512
_ids = itertools.count(1)

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(slots=True)
class Call:
    """One call under way, and at its end how it went.

    Attributes:
        method: `/package.Service/Method`.
        request_id: Unique enough to find the call in this service's log.
        peer: Who calls; None until identified.
        code: Name of the gRPC status, once answered.
        reason: Stable reason, when it failed.
        seconds: How long it took, once answered.
        metadata: What came with it, beside the user agent.
        trace: Which trace it belongs to, if any.
    """

    method: str
    request_id: str
    peer: PeerIdentity | None = None
    code: str = "OK"
    reason: str = ""
    seconds: float = 0.0
    metadata: Metadata = field(default=(), repr=False)
    trace: traces.TraceContext | None = None


_current: ContextVar[Call] = ContextVar("cloister_call")
# Where the handler of a call is looked up its metadata lie ready; asking for them again costs more than all we do here.
_metadata: ContextVar[Metadata] = ContextVar("cloister_metadata", default=())


def current_call() -> Call:
    """The call that the running task answers; raises LookupError outside of one."""
    return _current.get()


def request_id() -> str:
    """Names the call that the running task answers, in log and record; empty outside of one."""
    call = _current.get(None)
    return "" if call is None else call.request_id


def current_peer() -> PeerIdentity:
    """Who calls.

    Raises:
        Unauthenticated: Not inside a call, or nobody has been identified.
    """
    call = _current.get(None)
    if call is None or call.peer is None:
        raise Unauthenticated("nobody has been identified")
    return call.peer


@dataclass(slots=True)
class Details:
    """As `grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: Any


class RoleTable:
    """Which role may call what. A method that is not in it, by its own name or its service's, is refused.

    Args:
        entries: `/package.Service/Method` or `package.Service` to roles; the method's own entry wins.
    """

    def __init__(self, entries: Mapping[str, frozenset[str] | set[str]]) -> None:
        for key, roles in entries.items():
            if not ROLES.issuperset(roles):
                raise ValueError(f"{key} is open to a role that does not exist")
        self._entries = {key: frozenset(roles) for key, roles in entries.items()}

    def of(self, method: str) -> frozenset[str]:
        """Roles that may call `method`; none, if nothing says so."""
        found = self._entries.get(method)
        if found is None:
            found = self._entries.get(method.strip("/").partition("/")[0])
        return found if found is not None else frozenset()


class Guard(grpc.GenericRpcHandler):
    """Stands before the handlers of a server; see the module.

    Args:
        cluster: The trust domain that peers must be of.
        roles: Who may call what.
        max_call_s: Longest a call with one answer may take, whatever its client's deadline says.
        receive_s: Longest that a request message may take to arrive.
        shares: What each peer may have open; None where a crowd shares one identity.
        on_call: Called with each call that has ended; for metrics.
        log_answers: Log every call; else those that failed.
        identify: Says who a call's peer is, from its context; raises as `peer_identity` does.
        now_s: Unix time, for the end of peers' certificates.
        ready: Asked with the method of each call whose peer may make it; raises where it cannot be answered yet.
    """

    def __init__(
        self,
        cluster: str,
        roles: RoleTable,
        *,
        max_call_s: float,
        receive_s: float,
        shares: Shares | None = None,
        on_call: Callable[[Call], None] | None = None,
        log_answers: bool = True,
        identify: Callable[[Any], PeerIdentity] = peer_identity,
        now_s: Callable[[], float] = time.time,
        ready: Callable[[str], None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._roles = roles
        self._max_call_s = max_call_s
        self._receive_s = receive_s
        self._shares = shares
        self._overdue = Overdue(tick_s=min(1.0, receive_s / 4, max_call_s / 4))
        self._on_call = on_call
        self._log_answers = log_answers
        self._identify = identify
        self._now_s = now_s
        self._ready = ready
        self._log = log.get_logger().bind()  # bound once, which halves the cost of a line
        self._prefix = secrets.token_hex(4)
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._guarded: dict[str, tuple[object, grpc.RpcMethodHandler[Any, Any]]] = {}

    # The two methods that generated `add_XServicer_to_server` functions call on a server.

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Take handlers behind the guard."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Nothing: the same methods have come as generic handlers, and a pending call for each method costs more."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The guarded handler of a method, or None where there is none."""
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        if metadata is not None and len(metadata) > 1:  # more than the user agent
            _metadata.set(metadata)
        for handler in self._handlers:
            found = handler.service(handler_call_details)
            if found is not None:
                known = self._guarded.get(method)
                if known is None or known[0] is not found:
                    if len(self._guarded) >= _MAX_METHODS:
                        self._guarded.clear()
                    known = self._guarded[method] = (found, self._guard(method, found))
                return known[1]
        return None

    def bare(self, method: str) -> grpc.RpcMethodHandler[Any, Any] | None:
        """A handler without any guard: for what anybody may ask, nobody in particular."""
        details = Details(method, ())
        return next((found for each in self._handlers if (found := each.service(details)) is not None), None)

    def grown(self, size_bytes: int) -> None:
        """Count so much more of the running call's answer, which became larger on its way out."""
        if self._shares is not None and size_bytes >= LARGE_BYTES:
            self._shares.answered(current_peer().spiffe_id, size_bytes)

    def _guard(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        parse, serialize = handler.request_deserializer, handler.response_serializer
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        once = not handler.request_streaming
        if handler.response_streaming:
            stream = self._streamed(method, behaviour, parse if once else None, once=once)
            return grpc.stream_stream_rpc_method_handler(
                stream,
                request_deserializer=None if once else _checked(parse),
                response_serializer=serialize,
            )
        unary = self._answered(method, behaviour, parse if once else None, serialize, once=once)
        return grpc.stream_unary_rpc_method_handler(unary, request_deserializer=None if once else _checked(parse))

    def _answered(self, method: str, behaviour: Any, parse: Any, serialize: Any, *, once: bool) -> Any:
        allowed = self._roles.of(method)
        first_s = self._receive_s if once else self._max_call_s

        async def answer(requests: Any, context: Any) -> Any:
            call, started = self._begin(method)
            try:
                self._admit(call, context, allowed)
                self._overdue.watch(call, first_s)
                if once:
                    requests = await _received(context, parse)
                    self._overdue.watch(call, self._max_call_s)
                response = await behaviour(requests, context)
                raw = serialize(response) if serialize is not None else response
                if self._shares is not None and len(raw) >= LARGE_BYTES:
                    self._shares.answered(current_peer().spiffe_id, len(raw))
                return raw
            except BaseException as error:
                await self._tell(call, context, self._overdue.judge(call, error))
                raise
            finally:
                self._end(call, started)

        return answer

    def _streamed(self, method: str, behaviour: Any, parse: Any, *, once: bool) -> Any:
        allowed = self._roles.of(method)

        async def stream(requests: Any, context: Any) -> None:
            call, started = self._begin(method)
            try:
                self._admit(call, context, allowed)
                if once:
                    self._overdue.watch(call, self._receive_s)
                    requests = await _received(context, parse)
                    self._overdue.forget(call)
                await _written(behaviour(requests, context), context)
            except BaseException as error:
                await self._tell(call, context, self._overdue.judge(call, error))
                raise
            finally:
                self._end(call, started)

        return stream

    def _begin(self, method: str) -> tuple[Call, float]:
        call = Call(method, f"{self._prefix}-{next(_ids):x}")
        metadata = _metadata.get()
        if metadata:
            call.metadata, call.trace = metadata, traces.read(metadata)
        _current.set(call)
        return call, time.perf_counter()

    def _admit(self, call: Call, context: Any, allowed: frozenset[str]) -> None:
        peer = self._identify(context)
        if peer.cluster != self._cluster:
            raise Unauthenticated("the client is of another cluster")
        # TLS looked at the dates when the connection began, which may be long ago.
        if peer.expires_at <= self._now_s():
            raise Unauthenticated("the client certificate has expired", reason="identity.expired")
        call.peer = peer
        if peer.role not in allowed:
            raise NotAllowed(f"the role {peer.role} may not call this")
        if self._ready is not None:
            self._ready(call.method)
        if self._shares is not None:
            self._shares.enter(peer.spiffe_id)

    async def _tell(self, call: Call, context: Any, error: BaseException) -> None:
        """Answer with the status of `error`; raises AbortError once it is sent."""
        if isinstance(error, BaseExceptionGroup) and error.split(grpc.aio.AbortError)[1] is None:
            await self._tell(call, context, grpc.aio.AbortError())
            raise grpc.aio.AbortError from error  # by itself, as whoever ended the call raised it
        if isinstance(error, grpc.aio.BaseError):  # the handler's own abort, or the client is gone
            code = context.code() if isinstance(error, grpc.aio.AbortError) else grpc.StatusCode.CANCELLED
            call.code, call.reason = _code_name(code), "call.aborted"
            return
        if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, SystemExit)):
            call.code, call.reason = grpc.StatusCode.CANCELLED.name, "call.cancelled"
            return
        told = told_as(error, request_id=call.request_id)
        call.code, call.reason = code_of(told).name, reason_of(told)
        if told is not error and code_of(told) is grpc.StatusCode.INTERNAL:
            trace_id = call.trace.trace_id if call.trace is not None else ""
            self._log.error(
                "call.broken", method=call.method, request=call.request_id, trace_id=trace_id, exc_info=error
            )
        code, message, details = to_status(told)
        await context.abort(code, message, ((DETAILS_KEY, details),))

    def _end(self, call: Call, started: float) -> None:
        call.seconds = time.perf_counter() - started
        self._overdue.forget(call)
        if self._log_answers or call.code != "OK":
            self._log.info(
                "call.answered",
                method=call.method,
                peer=call.peer.spiffe_id if call.peer is not None else "",
                code=call.code,
                reason=call.reason,
                ms=round(call.seconds * 1000, 3),
                request=call.request_id,
                **({"trace_id": call.trace.trace_id} if call.trace is not None else {}),
            )
        if self._on_call is not None:
            self._on_call(call)


async def _received(context: Any, parse: Callable[[bytes], Any] | None) -> Any:
    raw = await context.read()
    if raw is grpc.aio.EOF:
        raise InvalidRequest("the call ended before its request")
    return _parsed(raw, parse)


def _parsed(raw: bytes, parse: Callable[[bytes], Any] | None) -> Any:
    if parse is None:
        return raw
    try:
        return parse(raw)
    except Exception as error:  # whichever parser it is: bytes that it does not take are the caller's fault
        raise InvalidRequest("the request does not parse", reason="request.malformed") from error


def _checked(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    return None if parse is None else lambda raw: _parsed(raw, parse)


async def _written(answer: AsyncIterator[Any] | Awaitable[Any], context: Any) -> None:
    """Drive a streaming handler, whether it yields its messages or writes them itself."""
    if isinstance(answer, AsyncIterator):
        try:
            async for message in answer:
                await context.write(message)
        finally:
            close = getattr(answer, "aclose", None)
            if close is not None:
                await close()
    else:
        await answer


def _code_name(code: object) -> str:
    return code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN.name
