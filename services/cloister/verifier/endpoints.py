"""What the verifier serves over HTTPS, to anybody: its keys, what it stands for, and evidence that it does.

| path | answer |
|---|---|
| `/.well-known/jwks.json` | the keys that Attestation Results are signed with (RFC 7517) |
| `/v1/trust` | root CA, keys, policy and anchor, as JSON (`evidence/mesh_trust.py`) |
| `/v1/evidence?nonce=<64 hex digits>` | a serialised `EvidenceBundle`, for that nonce and this listener's TLS key |
| `/healthz` | whether it is serving |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from cloister.errors import InvalidRequest
from cloister.evidence.mesh_trust import MeshTrust
from cloister.rpc.certificates import spki_sha256
from cloister.verifier.own_evidence import OwnAttester

BUNDLE_TYPE: Final = "application/x-protobuf"
# As long as stock clients keep a key set by themselves; a new key is to be announced longer than that before it signs.
_KEYS_CACHED: Final = "public, max-age=300"
_TRUST_CACHED: Final = "public, max-age=60"
_NONCE: Final = re.compile(r"[0-9a-f]{64}")


def endpoints(*, jwks: Callable[[], str], attester: OwnAttester, serving: Callable[[], bool]) -> Router:
    """The ASGI app.

    Args:
        jwks: The key set of this moment, as JSON.
        attester: Of this verifier.
        serving: Whether it is, and not about to stop.
    """

    async def keys(_request: Request) -> Response:
        return Response(jwks(), headers={"cache-control": _KEYS_CACHED}, media_type="application/jwk-set+json")

    async def trust(_request: Request) -> Response:
        return _cached_json(attester.trust())

    async def evidence(request: Request) -> Response:
        made = await attester.evidence(_nonce(request), _own_spki_sha256(request))
        return Response(
            made.bundle.SerializeToString(deterministic=True),
            headers={"cache-control": "no-store"},
            media_type=BUNDLE_TYPE,
        )

    async def healthz(_request: Request) -> Response:
        status = "SERVING" if serving() else "NOT_SERVING"
        headers = {"cache-control": "no-store"}
        return JSONResponse({"status": status}, 200 if serving() else 503, headers=headers)

    return Router(
        [
            Route("/.well-known/jwks.json", keys, methods=["GET"]),
            Route("/v1/trust", trust, methods=["GET"]),
            Route("/v1/evidence", evidence, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
        ],
        redirect_slashes=False,
    )


def _cached_json(trust: MeshTrust) -> Response:
    return Response(trust.to_json(), headers={"cache-control": _TRUST_CACHED}, media_type="application/json")


def _nonce(request: Request) -> bytes:
    given = request.query_params.getlist("nonce")
    if len(given) != 1 or not _NONCE.fullmatch(given[0]):
        raise InvalidRequest("nonce is 64 lower-case hex digits, given once", reason="nonce.invalid")
    return bytes.fromhex(given[0])


def _own_spki_sha256(request: Request) -> bytes:
    """Of the certificate that this connection's listener shows."""
    certificate: str = request.scope["extensions"]["tls"]["server_cert"]
    return spki_sha256(certificate.encode())
