"""Where an issuer's key set is read from: a file, or one https address, without redirect or proxy and within bounds.

Both are an operator's choice, and no token says anything about either (attack G27).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from cloister.errors import InvalidRequest, NotReady, Unavailable
from cloister.gateway.jwks import MAX_SET_BYTES
from cloister.gateway.tenant_file import IssuerTable
from cloister.rpc.files import read_guarded

DEADLINE_S: Final = 5.0
FILE_S: Final = 1.0
URL_S: Final = 300.0
"""How often a set is read again."""

Fetch = Callable[[], Awaitable[bytes]]


def source_of(issuer: IssuerTable, folder: Path) -> tuple[Fetch, float]:
    """Return what reads an issuer's key set, and every how many seconds it should. Reads files: call it in a thread.

    Raises:
        NotReady: The file of CA certificates cannot be used (`jwks.ca_unusable`).
    """
    if issuer.jwks_file is not None:
        return partial(asyncio.to_thread, read_guarded, folder / issuer.jwks_file), FILE_S
    return partial(_download, issuer.jwks_url, _tls(folder / issuer.ca if issuer.ca is not None else None)), URL_S


async def _download(url: str, context: ssl.SSLContext) -> bytes:
    """What an address answers; raises Unavailable, or InvalidRequest for an answer that is no set."""
    try:
        async with asyncio.timeout(DEADLINE_S), _connected(context) as http, http.stream("GET", url) as response:
            if 300 <= response.status_code < 400:
                raise InvalidRequest("its address points elsewhere, and is not followed", reason="jwks.redirected")
            if response.status_code != 200:
                raise Unavailable(f"its address answers {response.status_code}", reason="jwks.unreachable")
            return await _body(response)
    except TimeoutError:
        raise Unavailable("its address gives no whole answer in time", reason="jwks.unreachable") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # of TLS broken midway, OpenSSL's own
        raise Unavailable(f"its address cannot be reached: {_cause(error)}", reason="jwks.unreachable") from error


async def _body(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise InvalidRequest("the set is compressed, which nobody asked for", reason="jwks.invalid")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MAX_SET_BYTES:
            raise InvalidRequest("the set is larger than any should be", reason="jwks.invalid")
    return bytes(body)


def _connected(context: ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=context,
        follow_redirects=False,
        trust_env=False,
        timeout=None,  # noqa: S113  # the answer has a deadline as a whole
        headers={"Accept-Encoding": "identity", "User-Agent": "cloister"},
    )


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise NotReady(f"{ca} holds no usable CA certificates", reason="jwks.ca_unusable") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _cause(error: Exception) -> str:
    """What went wrong, without what the library may repeat of addresses."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not believed ({seen.verify_message})"
        seen = seen.__cause__ or seen.__context__
    return "no connection, or one that broke"
