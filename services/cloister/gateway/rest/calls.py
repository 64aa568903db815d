"""REST requests as calls of the gRPC handlers, through the guard that stands before them.

So a request has the roles, limits, deadlines, counts, traces and log lines of the call that it would have been, and is
refused for what that would have been refused for, in the same words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import grpc.aio
from starlette.requests import Request

from cloister.errors import CloisterError, InvalidRequest, NotAllowed
from cloister.gateway.rest.bodies import CODINGS, Body
from cloister.gateway.rest.context import RestContext
from cloister.gateway.rest.exchange import EXCHANGE, RestExchange
from cloister.gateway.servicer import INFERENCE
from cloister.gateway.timing import SERVER_TIMING
from cloister.kit.calls import Details, Guard
from cloister.kit.grpc_http import metadata_of
from cloister.kit.hosted import Identify
from cloister.kit.incoming import Arrivals
from cloister.rpc.identity import PeerIdentity

SMALL_BYTES: Final = 32 << 10
"""Bodies and answers up to here are read and written at once, larger ones on a thread, so many at a time."""
AT_A_TIME: Final = 2
_TYPES: Final = frozenset({"application/json", "application/octet-stream"})
_ELSEWHERE: Final = frozenset({"cross-site", "same-site"})
T = TypeVar("T")


class RestCalls:
    """Makes calls of requests.

    Args:
        guard: Of the handlers; identifies by what a context says.
        identify: Says who asks.
        party: Whose share an identity's bodies count as.
        arrivals: Counts bodies while they are held.
        max_body_bytes: Of one request, as it comes and as it inflates.
    """

    def __init__(
        self, guard: Guard, identify: Identify, party: Callable[[str], str], arrivals: Arrivals, max_body_bytes: int
    ) -> None:
        self._guard = guard
        self._identify = identify
        self._party = party
        self._arrivals = arrivals
        self._max_body_bytes = max_body_bytes
        # Threads of its own: what waits for one is forgotten when its client leaves, and nothing else waits behind it.
        self._large = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="rest")

    async def open(self, method: str, message: Any) -> bytes:
        """Ask what anybody may."""
        handler: Any = self._guard.bare(f"/{INFERENCE}/{method}")
        raw: bytes = await handler.unary_unary(message, None)
        return raw

    async def call(
        self,
        request: Request,
        method: str,
        message: Callable[[bytes], Awaitable[bytes]],
        *,
        service: str = INFERENCE,
    ) -> tuple[bytes, dict[str, str]]:
        """Make one call.

        Args:
            request: The HTTP request.
            method: Of the service.
            message: Makes the method's serialised message of the request's body; called once its peer may call at all.
            service: By its full name.

        Returns:
            The serialised answer, and headers that go along.

        Raises:
            CloisterError, TimeoutError: As the call was answered.
        """
        exchange: RestExchange = request.scope[EXCHANGE]
        identity = _here(request) or await self._identify(request.scope)
        peer = self._party(identity.spiffe_id).encode() if isinstance(identity, PeerIdentity) else b""
        body = Body(exchange.receive, peer, self._arrivals, self._max_body_bytes)

        async def read() -> bytes:
            content = await self._content(request, body)
            exchange.watch()
            return await message(content)

        context = RestContext(read, identity)
        handler: Any = self._guard.service(Details(f"/{service}/{method}", metadata_of(request.scope["headers"])))
        try:
            raw: bytes = await handler.stream_unary(None, context)
        except grpc.aio.AbortError:
            raise context.error() from None
        finally:
            body.close()
        told = dict(context.trailing_metadata())
        timing = told.get(SERVER_TIMING)
        return raw, {SERVER_TIMING: timing} if isinstance(timing, str) else {}

    async def worked(self, size_bytes: int, work: Callable[..., T], *arguments: Any) -> T:
        """Do what takes the longer the larger it is; what is large waits for its turn, and nothing waits for it."""
        if size_bytes <= SMALL_BYTES:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._large, work, *arguments)

    def written(self, raw_bytes: int, text_bytes: int) -> None:
        """Count what an answer takes as text beside what it took before, for as long as its client does not read it."""
        self._guard.grown(text_bytes - raw_bytes)

    async def _content(self, request: Request, body: Body) -> bytes:
        if request.method in ("GET", "HEAD"):
            return b""
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding not in CODINGS | {"identity"}:
            raise InvalidRequest("the content coding is none of gzip, deflate", reason="media.unsupported")
        content = await body.read(request.headers.get("content-length"))
        _check_type(request, content)
        if coding == "identity":
            return content
        return body.grown(await self.worked(SMALL_BYTES + 1, body.inflated, content))


def _check_type(request: Request, content: bytes) -> None:
    """Of what has a body: a type that no page of another site may send unasked."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content and kind and kind not in _TYPES:
        raise InvalidRequest(
            "the content type is neither application/json nor application/octet-stream", reason="media.unsupported"
        )


def _here(request: Request) -> CloisterError | None:
    """Why a request that a browser sends for a page of another site is nobody's.

    Browsers that do not say so by `Sec-Fetch-Site` name the page's origin, at least where they send more than GET.
    """
    headers = request.headers
    site = headers.get("sec-fetch-site")
    foreign = site is None and headers.get("origin", own := f"https://{headers.get('host', '')}") != own
    if foreign or site in _ELSEWHERE:
        return NotAllowed("another site's page may not ask in its visitor's name", reason="site.other")
    return None
