"""Where spans may be sent: one address, stated in full (attacks G27)."""

from __future__ import annotations

from typing import Final

from cloister.rpc.address import check_address

_SCHEMES: Final = ("https", "http")
_THIS_MACHINE: Final = ("127.0.0.1", "[::1]")


def check_endpoint(endpoint: str) -> None:
    """Raise ValueError for what is not `https://host:port`, nor `http://` with an address of this machine itself."""
    scheme, _, address = endpoint.partition("://")
    try:
        _SCHEMES.index(scheme)
        check_address(address)
    except ValueError as error:
        raise ValueError("otlp_endpoint must be https://host:port and nothing more") from error
    if scheme == "http" and address.rpartition(":")[0] not in _THIS_MACHINE:
        raise ValueError("otlp_endpoint: without TLS only to 127.0.0.1 or [::1]; write https://host:port")
