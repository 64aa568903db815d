"""Where a host says which client certificate its TLS has verified."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote_to_bytes

from cloister.kit.grpc_http import PEER_HEADER
from cloister.kit.hosted import Scope

_PEER: Final = PEER_HEADER.encode()
_NOTHING: Final = (b"", b"-")  # as Envoy writes what there is none of


def shown_to_envoy(scope: Scope) -> bytes | None:
    """What Envoy has verified and says by a header, which it takes from every client that sends it."""
    found = [value for name, value in scope["headers"] if name == _PEER]
    return unquote_to_bytes(found[0]) if len(found) == 1 and found[0] not in _NOTHING else None


def shown_to_us(scope: Scope) -> bytes | None:
    """What our own server has verified, by the ASGI TLS extension."""
    tls: dict[str, Any] = scope.get("extensions", {}).get("tls", {})
    chain = tls.get("client_cert_chain", ())
    return str(chain[0]).encode() if chain else None
