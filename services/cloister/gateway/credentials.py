"""Who asks, where it is not gRPC over mutual TLS that says so: by a client certificate, or by a token in a header.

    authorization: Bearer <JWT or API key>        x-api-key: <API key>

Identity comes from a certificate that TLS has verified, a signature, or a key whose hash is kept: no other header says
anything about who asks. Whoever shows two credentials must be the same tenant by both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from cloister.errors import Unauthenticated
from cloister.gateway.access_token import LEEWAY_S, MAX_TOKEN_BYTES
from cloister.gateway.api_keys import PREFIX, key_id, matches
from cloister.gateway.directory import Directory
from cloister.gateway.token_verifier import TokenVerifier, taken_by
from cloister.rpc.identity import PeerIdentity, peer_of

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""
_BEARER: Final = re.compile(rb"(?i:bearer) ([A-Za-z0-9._~+/=-]+)")
_API_KEY: Final = re.compile(rb"[A-Za-z0-9_-]+")
_HEADERS: Final = ((b"authorization", _BEARER), (b"x-api-key", _API_KEY))


class Credentials(Protocol):
    """What tells who asks."""

    async def identify(self, headers: Headers, certificate_pem: bytes | None) -> PeerIdentity:
        """Name whoever asks; a tenant that came by a token gets an identity of the role `client`.

        Args:
            headers: Of the request.
            certificate_pem: The client's, as TLS has verified it; None where it showed none.

        Raises:
            Unauthenticated: Nobody, or not any more; or two that are not the same.
            Unavailable: The keys that a token must be verified by cannot be had now.
        """
        ...

    def party(self, identity: str) -> str:
        """Whose share of this server the calls of an identity count as: its tenant's, or its own if it has none."""
        ...


class TenantCredentials:
    """Certificates of the mesh, and the keys and tokens that the tenants file knows.

    Args:
        cluster: Trust domain that certificates must be of.
        directory: Whose each identity is.
        tokens: Verifies tokens.
        now: Unix time in seconds.
    """

    def __init__(self, cluster: str, directory: Directory, tokens: TokenVerifier, *, now: Callable[[], float]) -> None:
        self._cluster = cluster
        self._directory = directory
        self._tokens = tokens
        self._now = now

    async def identify(self, headers: Headers, certificate_pem: bytes | None) -> PeerIdentity:
        """See `Credentials`."""
        shown = presented(headers)
        found = [self._by_certificate(certificate_pem)] if certificate_pem is not None else []
        for text in shown:
            found.append(self._by_key(text) if text.startswith(PREFIX) else await self._by_token(text))
        if not found:
            raise Unauthenticated("no client certificate, and no key or token")
        if len({self._directory.of(peer.spiffe_id).name for peer in found}) > 1:
            raise Unauthenticated("two credentials that are not of the same tenant", reason="identity.conflicting")
        return replace(found[0], expires_at=min(peer.expires_at for peer in found))

    def party(self, identity: str) -> str:
        """See `Credentials`."""
        try:
            return self._directory.of(identity).name
        except Unauthenticated:
            return identity

    def _by_certificate(self, pem: bytes) -> PeerIdentity:
        peer = peer_of(pem)
        if peer.cluster != self._cluster:
            raise Unauthenticated("the client certificate is of another cluster")
        if peer.expires_at <= self._now():  # TLS looked at the dates when the connection began
            raise Unauthenticated("the client certificate has expired", reason="identity.expired")
        return peer

    def _by_key(self, text: str) -> PeerIdentity:
        known = self._directory.key(key_id(text))
        if not matches(text, known.digest if known is not None else None) or known is None:
            raise Unauthenticated("the API key is not accepted", reason="key.unknown")
        if known.expires_at <= self._now():
            raise Unauthenticated("the API key has expired", reason="key.expired")
        return self._peer(known.identity, known.expires_at)

    async def _by_token(self, text: str) -> PeerIdentity:
        issuer, token = await self._tokens.verified(text)
        return self._peer(taken_by(token, self._directory.rules(issuer)), float(token.expires_at + LEEWAY_S))

    def _peer(self, identity: str, expires_at: float) -> PeerIdentity:
        return PeerIdentity(
            spiffe_id=identity,
            cluster=self._cluster,
            role="client",
            name=identity.rpartition("/tenant/")[2],
            spki_sha256=b"",
            expires_at=expires_at,
        )


def presented(headers: Headers) -> list[str]:
    """Return the keys and tokens in a request's headers, at most one from each.

    Raises:
        Unauthenticated: A header is given twice, or is not of its form (`authorization.malformed`).
    """
    found = []
    for name, form in _HEADERS:
        values = [value for known, value in headers if known == name]
        match = form.fullmatch(values[0]) if len(values) == 1 and len(values[0]) <= 2 * MAX_TOKEN_BYTES else None
        if not values:
            continue
        if match is None:
            raise Unauthenticated(
                f"'{name.decode()}' must be given once, as 'Bearer TOKEN' or, for x-api-key, as a key",
                reason="authorization.malformed",
            )
        found.append(match[match.lastindex or 0].decode("ascii"))
    return found
