"""Collateral for platform families, put together from the service's answers.

Families share most of it: the quoting enclave's identity is one for each TEE, the revocation lists one for each CA. In
one fetch each address is asked once, so that all families are given the same.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from cloister.errors import CloisterError, InvalidRequest, NotReady, Unavailable
from cloister.pcs import answers
from cloister.pcs.answers import Signed
from cloister.pcs.download import BUSY, Answer, Download, Limits, connected
from cloister.pcs.source import Source, Wanted


class PcsClient:
    """Fetches from one source. Reads certificates when it is made, so make it before an event loop is busy.

    Args:
        source: Where to fetch.
        limits: How much patience there is.
        pause: How to wait between attempts, in seconds.

    Raises:
        NotReady: The source's CA file cannot be used.
    """

    def __init__(
        self,
        source: Source,
        *,
        limits: Limits | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._limits = limits or Limits()
        self._pause = pause
        self._context = _tls(source)

    async def fetch(self, wanted: Sequence[Wanted]) -> dict[Wanted, bytes | CloisterError]:
        """Collateral for each family as QuoteCollateralV3 JSON, believed by nobody yet, or why there is none.

        An error's message names the service's host and what was wrong.
        """
        async with connected(self._context, self._source.proxy) as http:
            run = _Run(self._source, Download(http, self._limits, self._pause))
            return {one: await run.attempted(one) for one in wanted}


class _Run:
    """One fetch: what was answered already, errors included; a host that is down is not waited for again."""

    def __init__(self, source: Source, download: Download) -> None:
        self._source = source
        self._download = download
        self._answered: dict[str, Answer | CloisterError] = {}
        self._down: dict[str, Unavailable] = {}

    async def attempted(self, wanted: Wanted) -> bytes | CloisterError:
        try:
            return await self._collateral(wanted)
        except CloisterError as error:
            return error

    async def _collateral(self, wanted: Wanted) -> bytes:
        source = self._source
        tcb_info = await self._signed(source.tcb_info(wanted), "tcbInfo", answers.TCB_INFO_CHAINS)
        identity = await self._signed(source.qe_identity(wanted), "enclaveIdentity", answers.QE_IDENTITY_CHAINS)
        pck_crl_url = source.pck_crl(wanted)
        pck_crl, chain = await self._revocations(pck_crl_url), await self._issuer_chain(pck_crl_url)
        members = {
            "pck_crl_issuer_chain": chain,
            "root_ca_crl": (await self._revocations(source.root_crl())).hex(),
            "pck_crl": pck_crl.hex(),
            "tcb_info_issuer_chain": tcb_info.issuer_chain,
            "tcb_info": tcb_info.document,
            "tcb_info_signature": tcb_info.signature,
            "qe_identity_issuer_chain": identity.issuer_chain,
            "qe_identity": identity.document,
            "qe_identity_signature": identity.signature,
        }
        return json.dumps(members).encode()

    async def _signed(self, url: str, name: str, chains: tuple[str, ...]) -> Signed:
        answer = await self._get(url)
        with _blaming(url):
            return answers.signed_document(answer.body, answer.headers, name, chains)

    async def _revocations(self, url: str) -> bytes:
        answer = await self._get(url)
        with _blaming(url):
            return answers.revocation_list(answer.body)

    async def _issuer_chain(self, url: str) -> str:
        answer = await self._get(url)
        with _blaming(url):
            return answers.issuer_chain(answer.headers, answers.PCK_CRL_CHAINS)

    async def _get(self, url: str) -> Answer:
        if url not in self._answered:
            self._answered[url] = await self._asked(url)
        found = self._answered[url]
        if isinstance(found, CloisterError):
            raise found
        return found

    async def _asked(self, url: str) -> Answer | CloisterError:
        host = urlsplit(url).netloc
        if host in self._down:
            return self._down[host]
        try:
            return await self._download.get(url)
        except Unavailable as error:
            if error.reason != BUSY:  # a cache says so of what it has to ask for itself, and serves the rest
                self._down[host] = error
            return error
        except CloisterError as error:
            return error


@contextmanager
def _blaming(url: str) -> Iterator[None]:
    """Say in an error which host answered so, and to which route."""
    try:
        yield
    except InvalidRequest as error:
        address = urlsplit(url)
        where = f"{address.hostname}{address.path}"
        raise InvalidRequest(f"{where}: the answer is unusable: {error}", reason=error.reason) from error


def _tls(source: Source) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=source.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise NotReady(f"{source.ca_file} holds no usable CA certificates", reason="pcs.ca_unusable") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
