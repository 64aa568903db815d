"""Where the gateway is, whom to believe, and who asks: by arguments, or by a mesh folder in the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cloister.errors import InvalidRequest
from cloister.rpc.identity import TlsFiles

ENVIRONMENT: Final = "CLOISTER_MESH"


def address_of(host: str | None, port: int | str | None) -> str:
    """host:port; raises InvalidRequest where there is none, for nothing is guessed here."""
    if not host or not port:
        raise InvalidRequest(
            "name host and port of the gateway: there is no Redis to look for", reason="address.missing"
        )
    return f"{host}:{port}"


def tls_files_of(certificate: str | None, key: str | None, roots: str | None) -> TlsFiles | None:
    """The client's TLS files, or None if no one of them was named; raises InvalidRequest for some of them."""
    given = [path for path in (certificate, key, roots) if path is not None]
    if not given:
        return None
    if certificate is None or key is None or roots is None:
        raise InvalidRequest("give ssl_certfile, ssl_keyfile and ssl_ca_certs together", reason="tls.incomplete")
    return TlsFiles(certificate=Path(certificate), private_key=Path(key), trust_roots=Path(roots))


def of_mesh(given: Path | str | None, part: str) -> Path:
    """What was given, or the same of the mesh folder that the environment names.

    Raises:
        InvalidRequest: Neither says.
    """
    if given is not None:
        return Path(given)
    folder = os.environ.get(ENVIRONMENT)
    if not folder:
        raise InvalidRequest(
            f"say whom to believe and who asks: trust= and identity=, or {ENVIRONMENT}=FOLDER of a mesh ({part})",
            reason="trust.missing",
        )
    return Path(folder) / part
