"""A verifier's HTTPS listener, as a client sees that has no reason yet to believe it.

Bytes come in, under limits; what the listener's TLS key is comes with them. Whether any of it is to be believed is
decided in `verifier_trust.py`.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from google.protobuf.message import DecodeError

from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.errors import (
    CloisterError,
    EvidenceRejected,
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    Unavailable,
)
from cloister.evidence.mesh_trust import MeshTrust
from cloister.rpc.certificates import spki_sha256
from cloister.rpc.spiffe import check_cluster, server_name

MAX_BYTES: Final = 2 << 20

_ADDRESS: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")
_REASON: Final = re.compile(r"[a-z0-9_]{1,40}\.[a-z0-9_]{1,40}")
_ERRORS: Final[Mapping[int, type[CloisterError]]] = {
    400: InvalidRequest,
    404: NotFound,
    409: NotReady,
    429: Overloaded,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What a verifier says of itself; nothing of it is believed yet.

    Attributes:
        nonce: Ours, which its evidence must carry.
        bundle: Its evidence.
        trust: What it says it stands for.
        tls_spki_sha256: Of the key that the connection was made with.
    """

    nonce: bytes = field(repr=False)
    bundle: EvidenceBundle = field(repr=False)
    trust: MeshTrust
    tls_spki_sha256: bytes


async def offered_by(address: str, nonce: bytes, *, timeout_s: float) -> Offered:
    """Ask a verifier for its evidence, over TLS whose certificate is looked at and not believed.

    Raises:
        InvalidRequest: `address` is not host:port, or the answers do not parse.
        NotReady: It runs in no enclave (`enclave.absent`), or has no collateral.
        EvidenceRejected: Its TLS key changed between two requests.
        Unavailable: It cannot be reached, or does not answer as a verifier does.
    """
    async with _site(address, _unverified(), timeout_s) as site:
        trust, first = await site.get("/v1/trust")
        raw, second = await site.get(f"/v1/evidence?nonce={nonce.hex()}")
    if first != second:
        raise EvidenceRejected("the verifier's TLS key changed between two requests; try again", reason="tls.changed")
    try:
        bundle = EvidenceBundle.FromString(raw)
    except DecodeError as error:
        raise InvalidRequest("what came is no evidence bundle", reason="evidence.malformed") from error
    return Offered(nonce=nonce, bundle=bundle, trust=MeshTrust.from_json(trust), tls_spki_sha256=first)


async def trust_said_by(address: str, *, timeout_s: float) -> MeshTrust:
    """What a verifier says it stands for, over TLS whose certificate is not believed; raises as `offered_by`."""
    async with _site(address, _unverified(), timeout_s) as site:
        return MeshTrust.from_json((await site.get("/v1/trust"))[0])


async def trust_of(address: str, root_ca_pem: str, cluster: str, *, timeout_s: float) -> MeshTrust:
    """What the verifier of a cluster says it stands for, over TLS that this root CA vouches for.

    Raises:
        EvidenceRejected: Who answers has no certificate for a verifier of that cluster under that root.
        InvalidRequest: `cluster`, which a stranger named, is none.
        CloisterError: As `offered_by`.
    """
    check_cluster(cluster)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=root_ca_pem)
    async with _site(address, context, timeout_s, name=server_name(cluster, "verifier")) as site:
        return MeshTrust.from_json((await site.get("/v1/trust"))[0])


def _unverified() -> ssl.SSLContext:
    """TLS 1.3 to whoever answers: what vouches for the key is the evidence, not the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Site:
    def __init__(self, client: httpx.AsyncClient, address: str, name: str, timeout_s: float) -> None:
        self._client = client
        self._address = address
        self._timeout_s = timeout_s
        self._extensions = {"sni_hostname": name} if name else {}

    async def get(self, path: str) -> tuple[bytes, bytes]:
        """Content, and the SHA-256 of the listener's SubjectPublicKeyInfo."""
        url = f"https://{self._address}{path}"
        async with (
            asyncio.timeout(self._timeout_s),  # for the whole, so that one who drips does not hold us
            self._client.stream("GET", url, extensions=self._extensions) as answer,
        ):
            tls = answer.extensions["network_stream"].get_extra_info("ssl_object")
            peer = _certificate(tls.getpeercert(binary_form=True))
            content = await _content(answer)
            if answer.status_code != httpx.codes.OK:
                raise _error(answer, content)
            return content, spki_sha256(peer)


async def _content(answer: httpx.Response) -> bytes:
    """The body as it came: what is compressed could be of any size."""
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise InvalidRequest("the verifier's answer is compressed, which nobody asked for", reason="answer.malformed")
    content = bytearray()
    async for piece in answer.aiter_raw():
        content += piece
        if len(content) > MAX_BYTES:
            raise InvalidRequest("the verifier's answer is too large", reason="answer.too_large")
    return bytes(content)


def _certificate(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRequest("the verifier's TLS certificate cannot be read", reason="answer.malformed") from error
    return certificate


@asynccontextmanager
async def _site(address: str, context: ssl.SSLContext, timeout_s: float, name: str = "") -> AsyncIterator[_Site]:
    if not _ADDRESS.fullmatch(address):
        raise InvalidRequest("the address of a verifier's HTTPS listener is HOST:PORT", reason="address.invalid")
    try:
        # No proxy and no redirect: who answers is who was meant.
        async with httpx.AsyncClient(
            verify=context, timeout=timeout_s, trust_env=False, headers={"Accept-Encoding": "identity"}
        ) as client:
            yield _Site(client, address, name, timeout_s)
    except (httpx.HTTPError, OSError) as error:  # broken TLS in the middle comes as OpenSSL's own error
        if _is_distrust(error):
            raise EvidenceRejected(
                "who answers there has no certificate for a verifier of that mesh under that root CA",
                reason="certificate.untrusted",
            ) from error
        raise Unavailable(f"{address} does not answer: {type(error).__name__}") from error


def _is_distrust(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _error(answer: httpx.Response, content: bytes) -> CloisterError:
    """The error a verifier told, as far as a stranger's words go."""
    kind = _ERRORS.get(answer.status_code, Unavailable)
    try:
        told: Any = httpx.Response(200, content=content).json()["error"]
        reason, message = str(told["reason"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        reason, message = "", f"status {answer.status_code}"
    return kind(f"the verifier says: {message[:200]}", reason=reason if _REASON.fullmatch(reason) else None)
