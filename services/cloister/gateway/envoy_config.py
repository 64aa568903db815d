"""The configuration of the Envoy that stands before the gateway: HTTP/2 with mutual TLS 1.3, limits, and nothing else.

Envoy ends TLS and HTTP/2 and runs the gateway's Python inside itself (pyvoy); nothing is proxied. Each request carries
the client's certificate, as TLS has verified it, in a header of ours that no client can set. Certificate, key and roots
are followed on disk. What the fields mean: https://www.envoyproxy.io/docs/envoy/latest/api-v3/api.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cloister.gateway.envoy_https import open_to_https
from cloister.gateway.settings import Settings
from cloister.kit.grpc_http import PEER_HEADER

APPLICATION: Final = "cloister.gateway.hosted:application"
LISTENER: Final = "clients"
MAX_STREAMS: Final = 1024
"""Of one connection."""
STREAM_WINDOW_BYTES: Final = 1 << 20
CONNECTION_WINDOW_BYTES: Final = 16 << 20
# Without it, Envoy's parser of HTTP/1.1 passes over what stands between a chunk and the next one.
_STRICT: Final = {"envoy.reloadable_features.strict_chunk_parsing": True}
HEADERS_S, HANDSHAKE_S, IDLE_S, FLUSH_S, CLOSE_S = 10, 10, 600, 20, 1.0
HEAP_BYTES: Final = 1 << 30
"""What may be held beside requests that arrive and requests that wait, each `memory_bytes` at most.

The heap is that of the process, the gateway's large objects included. Near its limit, streams that hold most are reset.
"""
MAX_HEADERS_KIB: Final = 16

_TYPE = "type.googleapis.com/envoy."
_SECRETS = "tls"

Config = dict[str, Any]


def envoy_config(
    settings: Settings, *, admin: Path, module: Path, shared_port: bool = False, https: bool = False
) -> Config:
    """The whole configuration.

    Args:
        settings: The gateway's.
        admin: Unix socket of Envoy's own commands.
        module: pyvoy's shared library.
        shared_port: Whether others of ours listen on the same port, each with an Envoy of its own.
        https: Whether clients speak HTTP/1.1 or HTTP/2 there and may come without a certificate; else it is gRPC with
            mutual TLS.
    """
    listener = _listener(settings, admin.parent, module, shared_port=shared_port)
    if https:
        open_to_https(listener["filter_chains"][0])
    return {
        "node": {"id": settings.name, "cluster": settings.cluster},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "overload_manager": _limits(settings),
        "layered_runtime": {"layers": [{"name": "strict", "static_layer": _STRICT}]},
        "static_resources": {"listeners": [listener]},
    }


def _limits(settings: Settings) -> Config:
    monitors = "extensions.resource_monitors."
    connections = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": _TYPE + monitors + "downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": settings.max_connections,
        },
    }
    heap = {
        "name": "envoy.resource_monitors.fixed_heap",
        "typed_config": {
            "@type": _TYPE + monitors + "fixed_heap.v3.FixedHeapConfig",
            "max_heap_size_bytes": 2 * settings.memory_bytes + HEAP_BYTES,
        },
    }
    full = {"name": heap["name"], "threshold": {"value": 0.98}}
    filling = {"name": heap["name"], "scaled": {"scaling_threshold": 0.85, "saturation_threshold": 0.95}}
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [connections, heap],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
        "actions": [
            {"name": "envoy.overload_actions.reset_high_memory_stream", "triggers": [filling]},
            {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": [full]},
        ],
    }


def secrets(settings: Settings, *, https: bool = False) -> Mapping[str, Config]:
    """File name and content of what Envoy reads keys and roots by; the keys themselves stay where they are.

    Over HTTPS a certificate's name is looked at by the gateway alone: where Envoy is to look, it lets nobody in who
    shows none.
    """
    files = settings.tls
    own = {
        "certificate_chain": {"filename": str(files.certificate.absolute())},
        "private_key": {"filename": str(files.private_key.absolute())},
        "watched_directory": {"path": str(files.certificate.absolute().parent)},
    }
    peers: Config = {
        "trusted_ca": {"filename": str(files.trust_roots.absolute())},
        "watched_directory": {"path": str(files.trust_roots.absolute().parent)},
    }
    if not https:
        name = {"san_type": "URI", "matcher": {"prefix": f"spiffe://{settings.cluster}/"}}
        peers["match_typed_subject_alt_names"] = [name]
    return {
        "own.json": _secret("own", {"tls_certificate": own}),
        "peers.json": _secret("peers", {"validation_context": peers}),
    }


def _secret(name: str, content: Config) -> Config:
    return {"resources": [{"@type": _TYPE + "extensions.transport_sockets.tls.v3.Secret", "name": name, **content}]}


def _listener(settings: Settings, folder: Path, module: Path, *, shared_port: bool) -> Config:
    host, _, port = settings.listen.rpartition(":")
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": _http(module)}]
    return {
        "name": LISTENER,
        "address": {"socket_address": {"address": host.strip("[]") or "0.0.0.0", "port_value": int(port)}},  # noqa: S104
        "enable_reuse_port": shared_port,  # no second gateway shall share the port in silence
        "per_connection_buffer_limit_bytes": STREAM_WINDOW_BYTES,
        "filter_chains": [
            {
                "transport_socket_connect_timeout": f"{HANDSHAKE_S}s",
                "transport_socket": {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": _tls(folder),
                },
                "filters": filters,
            }
        ],
    }


def _tls(folder: Path) -> Config:
    def followed(name: str) -> Config:
        source = {"path_config_source": {"path": str(folder / f"{name}.json")}, "resource_api_version": "V3"}
        return {"name": name, "sds_config": source}

    return {
        "@type": _TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        # Every connection shows its certificate and proves its key.
        "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [followed("own")],
            "validation_context_sds_secret_config": followed("peers"),
        },
    }


def _http(module: Path) -> Config:
    return {
        "@type": _TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": "HTTP2",
        "stat_prefix": LISTENER,
        "generate_request_id": False,
        "use_remote_address": True,
        "skip_xff_append": True,
        "forward_client_cert_details": "SANITIZE",
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": False,
        "max_request_headers_kb": MAX_HEADERS_KIB,
        "request_headers_timeout": f"{HEADERS_S}s",
        "stream_idle_timeout": "0s",  # a stream may be open and idle for as long as its client likes
        "stream_flush_timeout": f"{FLUSH_S}s",
        "drain_timeout": "1s",
        "delayed_close_timeout": f"{CLOSE_S}s",
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_S}s", "max_headers_count": 64},
        "http2_protocol_options": {
            "max_concurrent_streams": MAX_STREAMS,
            "initial_stream_window_size": STREAM_WINDOW_BYTES,
            "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
            "connection_keepalive": {"interval": "30s", "timeout": "10s"},
        },
        "http_filters": [_paths(), _peer_header(), _python(module)],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"]}]},
    }


def _paths() -> Config:
    """Refuses paths that are no method's: pyvoy leaves a call unanswered for good whose path does not decode."""
    path = {"header": {"name": ":path", "string_match": {"safe_regex": {"regex": "/[!-$&-~]*"}}}}
    policy = {"permissions": [path], "principals": [{"any": True}]}
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": _TYPE + "extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": {"methods": policy}},
        },
    }


def _peer_header() -> Config:
    """Sets our header to the verified certificate, whatever the client has sent under that name."""
    header = {
        "header": {"key": PEER_HEADER, "value": "%DOWNSTREAM_PEER_CERT%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": _TYPE + "extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": [{"remove": PEER_HEADER}, {"append": header}]},
        },
    }


def _python(module: Path) -> Config:
    said = {"app": APPLICATION, "interface": "asgi", "root_path": "", "lifespan": True, "worker_threads": 1}
    return {
        "name": "pyvoy",
        "typed_config": {
            "@type": _TYPE + "extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": {"module": {"local": {"filename": str(module)}}},
            "filter_name": "pyvoy",
            "terminal_filter": True,
            "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(said)},
        },
    }
