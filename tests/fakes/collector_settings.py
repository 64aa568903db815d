"""deploy/observability/otel-collector.yaml, read, and what a receiver of ours makes of its TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import yaml

from fakes.pki import Pems

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "observability"


def collector_settings() -> dict[str, Any]:
    """The settings."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "otel-collector.yaml").read_text())
    return found


def allowed_keys() -> set[str]:
    """The attributes that come through."""
    return set(collector_settings()["processors"]["redaction"]["allowed_keys"])


def receiver_credentials(pems: Pems, senders_ca: bytes) -> grpc.ServerCredentials:
    """Those of a server that asks of its clients what the settings say.

    Args:
        pems: What stands for `cert_file` and `key_file`.
        senders_ca: What stands for `client_ca_file`.
    """
    tls = collector_settings()["receivers"]["otlp"]["protocols"]["grpc"]["tls"]
    assert tls["min_version"] == "1.3"  # certificates on elliptic curves and RSA suites for 1.2 leave gRPC nothing else
    asks = "client_ca_file" in tls
    return grpc.ssl_server_credentials(
        [(pems.private_key, pems.certificate)],
        root_certificates=senders_ca if asks else None,
        require_client_auth=asks,
    )
