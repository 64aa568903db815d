"""An OpenTelemetry collector: the OTLP trace service, really served, which keeps what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(TraceServiceServicer):
    """Takes spans.

    Attributes:
        requests: All that came.
        port: Where it listens.
        refuse: Answers with this status in place of taking anything.
    """

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.asked = 0
        self.port = 0
        self.refuse: grpc.StatusCode | None = None
        self._came = asyncio.Condition()

    @asynccontextmanager
    async def serving(self, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[Collector]:
        """On a free port of this machine; without TLS where there are no credentials."""
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_TraceServiceServicer_to_server(self, server)
        if credentials is None:
            self.port = server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)

    async def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        async with self._came:
            self.asked += 1
            if self.refuse is not None:
                self._came.notify_all()
                await context.abort(self.refuse, "not now")
            self.requests.append(request)
            self._came.notify_all()
        return ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    async def until(self, count: int) -> list[Span]:
        """Wait for so many spans."""
        async with asyncio.timeout(15), self._came:
            await self._came.wait_for(lambda: len(self.spans) >= count)
        return self.spans


def told(span: Span) -> dict[str, str | int | bool]:
    """A span's attributes."""
    kinds = {"string_value": "string_value", "int_value": "int_value", "bool_value": "bool_value"}
    return {each.key: getattr(each.value, kinds[str(each.value.WhichOneof("value"))]) for each in span.attributes}
