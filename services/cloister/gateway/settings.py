"""Settings of the gateway: `cloister-gateway --settings FILE`, then `CLOISTER_GATEWAY_<FIELD>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.limits import Limits, ModelLimits, ModelTable, TenantLimits
from cloister.gateway.otlp_endpoint import check_endpoint
from cloister.gateway.routing import NAME
from cloister.kit.redis_settings import RedisSettings
from cloister.kit.server import MAX_CONNECTIONS
from cloister.rpc.identity import TlsFiles
from cloister.rpc.spiffe import check_cluster

MAX_CALL_S = 86_400.0
GRPC = "grpc"
FRONTS = ("auto", "envoy", GRPC)
MAX_PROCESSES = 64
MAX_REQUEST_BYTES = 64 << 20
"""A frame around a request must stay below `rpc.channel.MAX_MESSAGE_BYTES`, or one request could break every link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Gateway settings.

    Attributes:
        cluster: Trust domain of the mesh.
        name: Which gateway this is, in logs.
        listen: host:port that clients reach.
        front: What ends TLS and HTTP/2 for clients: `envoy`, with this program inside it, which costs less
            processor time for each call; `grpc`, gRPC's own server; `auto` for Envoy where it can be had.
        processes: How many processes answer there; the kernel gives each connection to one of them. Limits below are of
            all of them together, and each enforces its equal part; each has a front of its own.
        rest_listen: host:port where the same is answered over HTTPS: REST, and behind Envoy gRPC-Web and gRPC; empty
            for nowhere. It has processes, links and metrics pages of its own, and limits of its own, each as large as
            those below.
        rest_processes: As `processes`, for HTTPS.
        verifier: host:port of the verifier, who tells which workers are attested.
        simulated_workers: Whether to link with workers whose hardware is simulated; by default they are nobody.
        queue_limit: Most calls that wait for one model.
        tenant_limit: Most unanswered calls of one tenant; below `queue_limit`, so that none can fill a queue alone.
        tenant_rate: Most requests a second of one tenant in the long run, each job that is submitted among them; 0 for
            any number.
        tenant_burst: How many of them at once after a pause; 0 for what the rate gives in a second.
        model_slots: Most slots of workers that one model's calls hold at once; 0 for as many as there are.
        model_rate: Most requests a second for one model, of all tenants together; 0 for any number.
        model_burst: As `tenant_burst`.
        tenants_file: Who the tenants are, by which identities, with which models and limits; watched. Without one,
            every client certificate of the mesh is a tenant of its own, with every model.
        models: What differs for a model, by its name.
        stream_limit: Most open streams of one tenant, watches over jobs and waits for results among them; each holds
            one of `max_concurrent`.
        memory_bytes: Most bytes of unanswered requests in all; one tenant may hold half. Behind Envoy, as many again of
            requests that are still arriving.
        max_message_bytes: Largest request of a client; at most 64 MiB, since frames of the worker link add their own.
            Answers may be as large as a worker's `max_message_bytes` lets them be.
        max_concurrent: Most calls and streams of clients at once.
        max_concurrent_per_peer: Of one tenant, those included whose answers it has not read.
        max_connections: Of all clients, open at once.
        max_call_s: Longest that a request may take, whatever deadline its client sets.
        routing: File that says which version of each model is the default and which its labels stand for; watched.
        log_requests: A line in the log for every call; else for those that failed, while metrics count them all.
        metrics_listen: host:port of the metrics page, or empty for none. Of several processes each has a page of its
            own, on the ports that follow.
        operator_listen: host:port for operators alone: GetStatus, health and reflection over mutual TLS, or empty for
            none. Of several processes each has one of its own, on the ports that follow.
        otlp_endpoint: Where spans are sent, `https://host:port` of an OTLP/gRPC collector (`http://` only for
            127.0.0.1 or [::1]); empty for none. Needs the extra `otel`.
        otlp_ca: PEM of the roots that the collector's certificate must chain to; the well-known ones if left out.
        otlp_certificate: PEM of the chain that is shown to a collector which asks who sends; read at the start.
        otlp_private_key: The key of that certificate.
        otlp_ratio: How many of the requests are traced whose callers say nothing of a trace, 0 to 1.
        otlp_tenants: Whether spans name the client.
        redis: Where jobs are kept; without it there are none.
        jobs: How many, how large, and how they are given to workers: by processes of their own, with links to workers
            and pages of metrics of their own, on the ports that follow those of all others.
    """

    cluster: str
    listen: str
    verifier: str
    tls: TlsFiles
    name: str = "gateway"
    front: str = "auto"
    routing: Path | None = None
    processes: int = 1
    rest_listen: str = ""
    rest_processes: int = 1
    simulated_workers: bool = False
    queue_limit: int = 256
    tenant_limit: int = 128
    tenant_rate: float = 0.0
    tenant_burst: int = 0
    model_slots: int = 0
    model_rate: float = 0.0
    model_burst: int = 0
    tenants_file: Path | None = None
    models: Mapping[str, ModelTable] = field(default_factory=dict)
    stream_limit: int = 64
    memory_bytes: int = 1 << 30
    max_message_bytes: int = MAX_REQUEST_BYTES
    max_concurrent: int = 1024
    max_concurrent_per_peer: int = 256
    max_connections: int = MAX_CONNECTIONS
    max_call_s: float = 300.0
    metrics_listen: str = ""
    operator_listen: str = ""
    otlp_endpoint: str = ""
    otlp_ca: Path | None = None
    otlp_certificate: Path | None = None
    otlp_private_key: Path | None = None
    otlp_ratio: float = 0.01
    otlp_tenants: bool = False
    log_json: bool = True
    log_requests: bool = False
    grace_s: float = 10.0
    redis: RedisSettings | None = None
    jobs: JobsSettings = field(default_factory=JobsSettings)

    def __post_init__(self) -> None:
        """Check what can be checked without opening anything; raises ValueError or InvalidRequest."""
        check_cluster(self.cluster)
        if self.front not in FRONTS:
            raise ValueError(f"front must be one of {', '.join(FRONTS)}")
        limits = (
            "queue_limit",
            "tenant_limit",
            "stream_limit",
            "memory_bytes",
            "max_message_bytes",
            "max_concurrent",
            "max_concurrent_per_peer",
            "max_connections",
        )
        for name in limits:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")
        unnamed = [name for name in self.models if not NAME.fullmatch(name)]
        if unnamed:
            raise ValueError(f"models: '{unnamed[0][:80]}': limits are for names of models, without a version")
        Limits(self.tenant_limits(), whose="every tenant's ")
        self.model_limits()
        for name in ("processes", "rest_processes"):
            if not 1 <= getattr(self, name) <= MAX_PROCESSES:
                raise ValueError(f"{name} must be 1 to {MAX_PROCESSES}")
        if self.max_message_bytes > MAX_REQUEST_BYTES:
            raise ValueError(f"max_message_bytes must be {MAX_REQUEST_BYTES} or less")
        if not 0 < self.max_call_s <= MAX_CALL_S:
            raise ValueError("max_call_s must be above zero, and a day at most")
        if self.grace_s < 0:
            raise ValueError("grace_s must not be negative")
        if self.rest_listen:
            _check_address("rest_listen", self.rest_listen, local=True)
        if self.operator_listen:
            _check_address("operator_listen", self.operator_listen)
        if self.otlp_endpoint:
            check_endpoint(self.otlp_endpoint)
        if (self.otlp_certificate is None) != (self.otlp_private_key is None):
            raise ValueError("otlp_certificate and otlp_private_key go together")
        if not 0 <= self.otlp_ratio <= 1:
            raise ValueError("otlp_ratio must be 0 to 1")

    @property
    def keeps_jobs(self) -> bool:
        """Whether this gateway takes jobs."""
        return self.redis is not None and self.jobs.enabled

    @property
    def runs_jobs(self) -> bool:
        """Whether it has processes that give them to workers."""
        return self.keeps_jobs and self.jobs.processes > 0

    def tenant_limits(self) -> TenantLimits:
        """What a tenant may have of which `tenants_file` says nothing else."""
        return TenantLimits(calls=self.tenant_limit, rate=self.tenant_rate, burst=self.tenant_burst)

    def model_limits(self) -> Limits[ModelLimits]:
        """What each model may have; raises ValueError."""
        usual = ModelLimits(
            queue=self.queue_limit, slots=self.model_slots, rate=self.model_rate, burst=self.model_burst
        )
        return Limits(usual, self.models, "models: every model's ")


def _check_address(name: str, listen: str, *, local: bool = False) -> None:
    """Raise ValueError for what is not host:port, or, if `local`, `:port` on this machine only."""
    host, colon, port = listen.rpartition(":")
    if not (host or (local and colon)) or not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f"{name} must be host:port")
