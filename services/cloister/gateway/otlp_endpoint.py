"""Where spans may be sent: one address, stated in full (attacks G27)."""

from __future__ import annotations

import re
from typing import Final

_FORM: Final = re.compile(r"(https?)://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")
_THIS_MACHINE: Final = ("127.0.0.1", "[::1]")
_SCHEMES: Final = frozenset({"unix", "unix-abstract", "dns", "xds", "vsock", "ipv4", "ipv6", "google-c2p"})
"""To gRPC `unix:4317` is a socket in a folder, and so on."""


def check_endpoint(endpoint: str) -> None:
    """Raise ValueError for what is not `https://host:port`, nor `http://` with an address of this machine itself."""
    match = _FORM.fullmatch(endpoint)
    if match is None or not 0 < int(match[3]) <= 65535 or match[2] in _SCHEMES:
        raise ValueError("otlp_endpoint must be https://host:port and nothing more")
    if match[1] == "http" and match[2] not in _THIS_MACHINE:
        raise ValueError("otlp_endpoint: without TLS only to 127.0.0.1 or [::1]; write https://host:port")
