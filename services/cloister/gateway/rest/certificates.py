"""Who asks over HTTPS, by client certificate; and where a host says which certificate its TLS has verified."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote_to_bytes

from cloister.errors import Unauthenticated
from cloister.gateway.credentials import Headers
from cloister.kit.grpc_http import PEER_HEADER
from cloister.kit.hosted import Scope
from cloister.rpc.identity import PeerIdentity, peer_of

_PEER: Final = PEER_HEADER.encode()
_NOTHING: Final = (b"", b"-")  # as Envoy writes what there is none of


class Certificates:
    """`Credentials` of whoever shows a certificate of the mesh."""

    async def identify(self, _headers: Headers, certificate_pem: bytes | None) -> PeerIdentity:
        """See `Credentials`."""
        if certificate_pem is None:
            raise Unauthenticated("no client certificate")
        return peer_of(certificate_pem)


def shown_to_envoy(scope: Scope) -> bytes | None:
    """What Envoy has verified and says by a header, which it takes from every client that sends it."""
    found = [value for name, value in scope["headers"] if name == _PEER]
    return unquote_to_bytes(found[0]) if len(found) == 1 and found[0] not in _NOTHING else None


def shown_to_us(scope: Scope) -> bytes | None:
    """What our own server has verified, by the ASGI TLS extension."""
    tls: dict[str, Any] = scope.get("extensions", {}).get("tls", {})
    chain = tls.get("client_cert_chain", ())
    return str(chain[0]).encode() if chain else None
