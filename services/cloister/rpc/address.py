"""host:port, and nothing else that gRPC would take for an address.

To gRPC `unix:443` is a socket in a folder, `dns:443` a name to look up, and so on; whoever may name an address must not
be able to name such a thing (attacks G27, I02).
"""

from __future__ import annotations

import re
from typing import Final

_FORM: Final = re.compile(r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[0-9]{1,5})")
_SCHEMES: Final = frozenset({"unix", "unix-abstract", "dns", "xds", "vsock", "ipv4", "ipv6", "google-c2p"})


def check_address(address: str, *, any_port: bool = False) -> None:
    """Check that this is host:port.

    Args:
        address: A name or IPv4 address, or an IPv6 address in brackets, and a port.
        any_port: Whether port 0 may stand for a free one.

    Raises:
        ValueError: It is not.
    """
    match = _FORM.fullmatch(address)
    least = 0 if any_port else 1
    if match is None or match["host"].lower() in _SCHEMES or not least <= int(match["port"]) <= 65535:
        raise ValueError("must be host:port, such as 10.0.0.7:8443")
