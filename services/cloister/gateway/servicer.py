"""Protobuf to values and back, for the Open Inference Protocol and the gateway's own calls.

`ModelInfer` and `ModelStreamInfer` have no serializers: their messages stay the bytes that came. Everything a client is
told of a worker is what the verifier or the worker said; it judges for itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from cloister import __version__
from cloister.api.oip import inference_pb2 as oip
from cloister.api.v1 import gateway_pb2
from cloister.api.v1.gateway_pb2_grpc import GatewayServicer as GatewayBase
from cloister.errors import InvalidRequest
from cloister.gateway import repository
from cloister.gateway.admission import Admission
from cloister.gateway.catalogue import merged_metadata
from cloister.gateway.directory import Tenant
from cloister.gateway.fleet import Fleet
from cloister.gateway.jobs.messages import queue_message
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.member import Member
from cloister.gateway.metrics import RequestMetrics
from cloister.gateway.results import displayed
from cloister.gateway.stream import AnswerStream
from cloister.gateway.tenants import Tenants
from cloister.gateway.timing import SERVER_TIMING, asks_for_timing, server_timing
from cloister.gateway.usage import Usage
from cloister.gateway.wire import Route
from cloister.kit.server import current_call, current_peer
from cloister.kit.shared_port import Place
from cloister.kit.shares import when_done
from cloister.kit.traces import TraceContext

INFERENCE: Final = "inference.GRPCInferenceService"
GATEWAY: Final = "cloister.api.v1.Gateway"
JOBS: Final = "cloister.api.v1.Jobs"
_CLIENTS: Final = frozenset({"client", "owner", "operator"})
_OVERSEERS: Final = frozenset({"auditor", "operator"})
ROLES: Final = {
    INFERENCE: _CLIENTS,
    f"/{INFERENCE}/RepositoryModelLoad": frozenset({"operator"}),
    f"/{INFERENCE}/RepositoryModelUnload": frozenset({"operator"}),
    f"/{GATEWAY}/ListWorkers": _CLIENTS,
    f"/{GATEWAY}/GetStatus": _OVERSEERS,
    JOBS: _CLIENTS,
    f"/{JOBS}/ListQueues": _OVERSEERS,
    f"/{JOBS}/ListDeadLetters": _OVERSEERS,
}
MAX_LISTED: Final = 64
"""Workers that one answer lists: as many as one request can be sealed to."""


class InferenceServicer:
    """The Open Inference Protocol.

    Args:
        streams: Counts each tenant's open streams.
        max_call_s: The most that one request may take.
        stopping: Streams come to an end once it is set.
        new_trace: Begins a trace for a request that belongs to none, if it is to have one.
    """

    def __init__(
        self,
        fleet: Fleet,
        admission: Admission,
        streams: Tenants,
        *,
        max_call_s: float,
        stopping: asyncio.Event,
        new_trace: Callable[[], TraceContext | None] = lambda: None,
    ) -> None:
        self._fleet = fleet
        self._admission = admission
        self._directory = admission.directory
        self._streams = streams
        self._max_call_s = max_call_s
        self._stopping = stopping
        self._new_trace = new_trace

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server is given to serve all of it."""
        methods = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self.model_infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self.model_stream_infer),
            "ServerLive": _answering(self.server_live, oip.ServerLiveRequest),
            "ServerReady": _answering(self.server_ready, oip.ServerReadyRequest),
            "ServerMetadata": _answering(self.server_metadata, oip.ServerMetadataRequest),
            "ModelReady": _answering(self.model_ready, oip.ModelReadyRequest),
            "ModelMetadata": _answering(self.model_metadata, oip.ModelMetadataRequest),
            "RepositoryIndex": _answering(self.repository_index, oip.RepositoryIndexRequest),
            "RepositoryModelLoad": _answering(self.model_load, oip.RepositoryModelLoadRequest),
            "RepositoryModelUnload": _answering(self.model_unload, oip.RepositoryModelUnloadRequest),
        }
        return grpc.method_handlers_generic_handler(INFERENCE, methods)

    async def model_infer(self, request: bytes, context: Any) -> bytes:
        """One request, one answer."""
        remaining_s = context.time_remaining()
        timeout_s = self._max_call_s if remaining_s is None else min(remaining_s, self._max_call_s)
        asked = current_call()
        asked.trace = asked.trace or self._new_trace()
        call = self._admission.begin(request, current_peer().spiffe_id, timeout_s, asked.trace)
        try:
            answer = await call.answer
        finally:
            self._admission.end(call)
        if asked.metadata and asks_for_timing(asked.metadata):
            context.set_trailing_metadata(((SERVER_TIMING, server_timing(call, call.ended_s)),))
        return answer

    async def model_stream_infer(self, _requests: Any, context: Any) -> None:
        """Many requests, their answers in the same order."""
        peer = current_peer()
        ends_in_s = context.time_remaining()
        # TLS looked at the certificate's dates when the connection began; a stream may outlive them.
        expires_in_s = peer.expires_at - time.time()
        tenant = self._directory.of(peer.spiffe_id).name
        self._streams.enter(tenant, 0, time.monotonic())
        # Counted until gRPC has done with it: what a client does not read is held there, and neither our answer nor our
        # error ends its stream. So a tenant that never reads has no more such streams than it may have any.
        when_done(lambda _: self._streams.leave(tenant, 0))
        asked = current_call()
        stream = AnswerStream(
            context,
            self._admission,
            peer.spiffe_id,
            self._max_call_s,
            trace=(lambda: asked.trace) if asked.trace is not None else self._new_trace,
            timed=asks_for_timing(asked.metadata),
        )
        async with self._directory.while_known(peer.spiffe_id):
            await stream.run(self._stopping, expires_in_s=expires_in_s, ends_in_s=ends_in_s)

    async def server_live(self, _request: oip.ServerLiveRequest, _context: Any) -> bytes:
        """Whoever answers is alive."""
        return oip.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, _request: oip.ServerReadyRequest, _context: Any) -> bytes:
        """Ready when the fleet is known and somebody in it takes calls."""
        ready = self._fleet.current.is_set() and any(member.takes_calls for member in self._fleet.members)
        return oip.ServerReadyResponse(ready=ready).SerializeToString()

    async def server_metadata(self, _request: oip.ServerMetadataRequest, _context: Any) -> bytes:
        """Name and version of this program, and what it does beyond the protocol."""
        extensions = ("model_repository", "model_stream_infer", "cloister_seal")
        answer = oip.ServerMetadataResponse(name="cloister", version=__version__, extensions=extensions)
        return answer.SerializeToString()

    async def model_ready(self, request: oip.ModelReadyRequest, _context: Any) -> bytes:
        """Whether some worker takes calls for it."""
        ready = any(self._fleet.serving(self._asker().seen(request.name), request.version))
        return oip.ModelReadyResponse(ready=ready).SerializeToString()

    async def model_metadata(self, request: oip.ModelMetadataRequest, _context: Any) -> bytes:
        """What workers report, with the versions of all of them."""
        name = self._asker().seen(request.name)
        version = self._fleet.dispatcher.version_of(name, request.version)
        metadata = merged_metadata(self._fleet.states(name), version)
        if not metadata:
            raise self._fleet.missing(Route(name, request.version, "", None))
        return metadata

    async def repository_index(self, request: oip.RepositoryIndexRequest, _context: Any) -> bytes:
        """Every version that some worker serves or should serve."""
        _check_repository(request.repository_name)
        index = repository.index(self._fleet, ready_only=request.ready, sees=self._asker().sees)
        return index.SerializeToString()

    async def model_load(self, request: oip.RepositoryModelLoadRequest, context: Any) -> bytes:
        """Have the workers load a model, `name` or `name@version`. Role: operator."""
        _check_repository(request.repository_name)
        repository.check_parameters(request.parameters)
        await repository.order(self._fleet, repository.LOAD, request.model_name, self._left_s(context))
        return oip.RepositoryModelLoadResponse().SerializeToString()

    async def model_unload(self, request: oip.RepositoryModelUnloadRequest, context: Any) -> bytes:
        """Have the workers unload a model once what is under way is answered. Role: operator."""
        _check_repository(request.repository_name)
        repository.check_parameters(request.parameters, known={"unload_dependents"})  # no model has any
        await repository.order(self._fleet, repository.UNLOAD, request.model_name, self._left_s(context))
        return oip.RepositoryModelUnloadResponse().SerializeToString()

    def _asker(self) -> Tenant:
        return self._directory.of(current_peer().spiffe_id)

    def _left_s(self, context: Any) -> float:
        remaining_s = context.time_remaining()
        return self._max_call_s if remaining_s is None else min(float(remaining_s), self._max_call_s)


class GatewayServicer(GatewayBase):
    """The gateway's own calls.

    Args:
        usage: What there is of models and tenants.
        requests: How long they took.
        jobs: How the queues of jobs are.
        place: Which process of a gateway answers, where it has several.
    """

    def __init__(
        self,
        fleet: Fleet,
        admission: Admission,
        usage: Usage,
        requests: RequestMetrics,
        jobs: StoreWatch,
        place: Place | None = None,
    ) -> None:
        self._fleet = fleet
        self._admission = admission
        self._usage = usage
        self._requests = requests
        self._jobs = jobs
        self._place = place

    async def ListWorkers(
        self, request: gateway_pb2.ListWorkersRequest, context: Any
    ) -> gateway_pb2.ListWorkersResponse:
        """Who serves a model, with the evidence to judge them by."""
        name = self._admission.directory.of(current_peer().spiffe_id).seen(request.model_name)
        serving = list(self._fleet.serving(name, request.model_version))
        if not serving:
            raise self._fleet.missing(Route(name, request.model_version, "", None))
        if len(serving) > MAX_LISTED:
            serving = random.sample(serving, MAX_LISTED)
        response = gateway_pb2.ListWorkersResponse(key_set=self._fleet.key_set)
        for member, state in serving:
            response.workers.add(
                instance=member.worker.instance,
                bundle=member.worker.bundle,
                model_version=state.version,
                model_digest=state.digest,
                allow_plain=state.allow_plain,
                manifest=state.manifest,
                job_epoch=state.job_epoch if state.HasField("job_epoch") else None,
            )
        return response

    async def GetStatus(self, request: gateway_pb2.GetStatusRequest, context: Any) -> gateway_pb2.GetStatusResponse:
        """The mesh as this gateway sees it, or this one of its processes."""
        return gateway_pb2.GetStatusResponse(
            process=self._place.number if self._place else 1,
            processes=self._place.count if self._place else 1,
            workers=[_status(member) for member in self._fleet.members],
            requests_total=self._admission.requests,
            requests_failed_total=self._admission.failures,
            queued=self._fleet.dispatcher.queued,
            models=self._usage.models(),
            tenants=self._usage.tenants(),
            latencies=self._requests.latencies(),
            jobs=self._jobs.state,
            job_queues=map(queue_message, self._jobs.queues.values()),
        )


def _status(member: Member) -> gateway_pb2.WorkerStatus:
    worker, link = member.worker, member.link
    shown = displayed(worker.bundle.attestation_result)
    counters = link.counters if link is not None else None
    return gateway_pb2.WorkerStatus(
        instance=worker.instance,
        endpoint=worker.endpoint,
        linked=link is not None and link.slots > 0,
        draining=link is not None and link.draining,
        simulated=worker.simulated,
        slots=link.granted if link is not None and link.slots else 0,
        slots_used=link.used if link is not None else 0,
        models=sorted(f"{name}@{version}" for name, versions in member.models.items() for version in versions),
        attested_until_ms=worker.expires_at_ms,
        mrenclave=shown.mrenclave,
        tcb_status=shown.tcb_status,
        counters=counters,
        tee=shown.tee,
        td_measurement=shown.td_measurement,
    )


def _check_repository(name: str) -> None:
    if name:
        raise InvalidRequest("there is one repository, and it has no name", reason="repository.unknown")


def _answering(behaviour: Any, request_class: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(behaviour, request_deserializer=request_class.FromString)
