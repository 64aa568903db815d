"""Spans to an OpenTelemetry collector, by the official SDK; only imported where the settings name one.

One host, the configured one: nothing in the environment sends spans elsewhere or through a proxy, gRPC knows no
redirects, and only this machine is spoken to without TLS (attacks G27). What further headers the SDK finds in the
environment go to that host too. Spans are sent from a thread of the SDK's, in
batches, from a queue that is bounded: while the collector is away they are dropped, and requests do not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace import set_span_in_context as within

from cloister import __version__
from cloister.errors import NotReady
from cloister.kit.config import settings_error
from cloister.kit.traces import TraceContext
from cloister.rpc.files import read_private, read_public

MAX_QUEUED: Final = 2048
MAX_BATCH: Final = 512
EXPORT_EVERY_S: Final = 1.0
EXPORT_S: Final = 5.0
"""How long sending one batch may take, new attempts included; also the last one, when the service ends."""
_OPTIONS: Final[Any] = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
)

Attributes = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class CollectorTls:
    """Who the collector must be, and who we are to it: files in PEM.

    Attributes:
        roots: That its certificate must chain to; None for the well-known ones.
        certificate: Chain that we show, leaf first; None for none, which a collector that asks for one refuses.
        private_key: Of the certificate; as it is there or not.
    """

    roots: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None

    def read(self) -> grpc.ChannelCredentials:
        """What a channel is made with.

        Raises:
            InvalidRequest: The roots cannot be read.
            NotReady: Nor can what we show, or its key is open to others.
        """
        try:
            roots = read_public(self.roots) if self.roots is not None else None
        except NotReady as error:
            raise settings_error("otlp_ca", str(error)) from error
        if self.certificate is None or self.private_key is None:
            return grpc.ssl_channel_credentials(roots)
        return grpc.ssl_channel_credentials(roots, read_private(self.private_key), read_public(self.certificate))


class _Ids(IdGenerator):
    """Trace ids that were given out when their requests came; span ids at random."""

    def __init__(self) -> None:
        self.trace_id = 0
        self._random = RandomIdGenerator()

    def generate_span_id(self) -> int:
        return self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        return self.trace_id


class SpanRecorder:
    """Makes spans of what has been measured. Called on the event loop only."""

    def __init__(self, provider: TracerProvider, ids: _Ids) -> None:
        self._tracer = provider.get_tracer("cloister", __version__)
        self._ids = ids

    def root(
        self, trace: TraceContext, name: str, start_ns: int, end_ns: int, attributes: Attributes, *, error: str = ""
    ) -> Span:
        """A span of kind server, below the caller's if there is one.

        Args:
            trace: Which it belongs to.
            name: Of few.
            start_ns: Unix time, as is `end_ns`.
            end_ns: See `start_ns`.
            attributes: What else is known.
            error: The class of the error that it ended with; empty for none.
        """
        self._ids.trace_id = int(trace.trace_id, 16)
        span = self._tracer.start_span(
            name, _caller(trace), SpanKind.SERVER, attributes, start_time=start_ns, record_exception=False
        )
        if error:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_ns)
        return span

    def child(self, parent: Span, name: str, start_ns: int, end_ns: int, attributes: Attributes | None = None) -> Span:
        """A span below another; of kind client where it has attributes, since then it is about a peer."""
        kind = SpanKind.CLIENT if attributes else SpanKind.INTERNAL
        span = self._tracer.start_span(name, within(parent), kind, attributes, start_time=start_ns)
        span.end(end_ns)
        return span


def _caller(trace: TraceContext) -> Context:
    if not trace.parent_id:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED)
    return within(NonRecordingSpan(SpanContext(int(trace.trace_id, 16), int(trace.parent_id, 16), True, flags)))


@asynccontextmanager
async def recording(endpoint: str, tls: CollectorTls, resource: Attributes) -> AsyncIterator[SpanRecorder]:
    """Send spans to a collector while the block lasts, and what is left at its end.

    Args:
        endpoint: As `check_endpoint` lets it pass.
        tls: For an endpoint that is `https`.
        resource: What these spans are from.

    Raises:
        InvalidRequest: The roots cannot be read.
        NotReady: Nor can what we show, or its key is open to others.
    """
    plaintext = endpoint.startswith("http://")
    credentials = None if plaintext else await asyncio.to_thread(tls.read)
    exporter = OTLPSpanExporter(
        endpoint=endpoint,
        insecure=plaintext,
        credentials=credentials,
        timeout=EXPORT_S,
        compression=grpc.Compression.NoCompression,
        channel_options=_OPTIONS,
    )
    ids = _Ids()
    provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource(resource), shutdown_on_exit=False, id_generator=ids)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=MAX_QUEUED,
            schedule_delay_millis=EXPORT_EVERY_S * 1000,
            max_export_batch_size=MAX_BATCH,
            export_timeout_millis=EXPORT_S * 1000,
        )
    )
    try:
        yield SpanRecorder(provider, ids)
    finally:
        await asyncio.to_thread(provider.shutdown)
