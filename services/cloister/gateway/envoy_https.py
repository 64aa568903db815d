"""What Envoy is told otherwise where clients speak HTTPS: both versions of HTTP, and a certificate only of who has one.

A certificate that is shown is verified as for gRPC, or the handshake fails. gRPC-Web becomes gRPC before it reaches us.
What Envoy refuses by itself is told in the form that clients of the REST protocol read.
"""

from __future__ import annotations

from typing import Any, Final

REFUSED: Final = "request.refused"
_FORBIDDEN: Final = 403
_GRPC_WEB: Final = {
    "name": "envoy.filters.http.grpc_web",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"},
}


def open_to_https(chain: dict[str, Any]) -> None:
    """Change the one filter chain of a listener."""
    tls = chain["transport_socket"]["typed_config"]
    tls["require_client_certificate"] = False
    tls["common_tls_context"]["alpn_protocols"] = ["h2", "http/1.1"]
    http = chain["filters"][0]["typed_config"]
    http["codec_type"] = "AUTO"
    http["local_reply_config"] = _local_replies()
    http["path_with_escaped_slashes_action"] = "REJECT_REQUEST"
    http["common_http_protocol_options"]["headers_with_underscores_action"] = "REJECT_REQUEST"
    http["http_filters"].insert(1, _GRPC_WEB)  # behind the filter of paths


def _local_replies() -> dict[str, Any]:
    """Words for what is refused before we see it; 403 is for a path that can be no path of ours."""
    refused = {"comparison": {"op": "EQ", "value": {"default_value": _FORBIDDEN, "runtime_key": "cloister.none"}}}
    nowhere = {
        "filter": {"status_code_filter": refused},
        "status_code": 404,
        "body_format_override": _json("there is nothing at this path", "path.unknown"),
    }
    return {"mappers": [nowhere], "body_format": _json("%LOCAL_REPLY_BODY%", REFUSED)}


def _json(error: str, reason: str) -> dict[str, Any]:
    return {"json_format": {"error": error, "reason": reason}}
