"""Where an issuer's keys may be asked for: one https address, stated in full by an operator (attack G27)."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def check_jwks_url(url: str, where: str) -> None:
    """Raise ValueError for what is not `https://host[:port]/path`; `where` names the setting."""
    try:
        address = urlsplit(url)
        host, port = address.hostname, address.port
        if "[" in address.netloc or (host and host.rpartition(".")[2].isdigit()):
            ip_address(host or "")  # what looks like one and is none is no name either
    except ValueError:
        host, port = None, None
    plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url and len(url) <= 2048
    if not plain or not host or address.scheme != "https" or port == 0:
        raise ValueError(f"{where}.jwks_url must be https://host[:port]/path")
    if address.username is not None or address.password is not None or address.fragment:
        raise ValueError(f"{where}.jwks_url must hold no user, password or fragment")
