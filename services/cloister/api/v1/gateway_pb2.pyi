from cloister.api.v1 import evidence_pb2 as _evidence_pb2
from cloister.api.v1 import jobs_pb2 as _jobs_pb2
from cloister.api.v1 import model_pb2 as _model_pb2
from cloister.api.v1 import worker_pb2 as _worker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListWorkersRequest(_message.Message):
    __slots__ = ("model_name", "model_version")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ...) -> None: ...

class ListWorkersResponse(_message.Message):
    __slots__ = ("workers", "key_set")
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    KEY_SET_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedCompositeFieldContainer[ServingWorker]
    key_set: bytes
    def __init__(self, workers: _Optional[_Iterable[_Union[ServingWorker, _Mapping]]] = ..., key_set: _Optional[bytes] = ...) -> None: ...

class ServingWorker(_message.Message):
    __slots__ = ("instance", "bundle", "model_version", "model_digest", "allow_plain", "manifest", "job_epoch")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PLAIN_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    JOB_EPOCH_FIELD_NUMBER: _ClassVar[int]
    instance: str
    bundle: _evidence_pb2.EvidenceBundle
    model_version: str
    model_digest: bytes
    allow_plain: bool
    manifest: _model_pb2.SignedManifest
    job_epoch: _model_pb2.SignedJobEpoch
    def __init__(self, instance: _Optional[str] = ..., bundle: _Optional[_Union[_evidence_pb2.EvidenceBundle, _Mapping]] = ..., model_version: _Optional[str] = ..., model_digest: _Optional[bytes] = ..., allow_plain: bool = ..., manifest: _Optional[_Union[_model_pb2.SignedManifest, _Mapping]] = ..., job_epoch: _Optional[_Union[_model_pb2.SignedJobEpoch, _Mapping]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("workers", "requests_total", "requests_failed_total", "queued", "process", "processes", "models", "tenants", "latencies", "jobs", "job_queues")
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FAILED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    LATENCIES_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    JOB_QUEUES_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedCompositeFieldContainer[WorkerStatus]
    requests_total: int
    requests_failed_total: int
    queued: int
    process: int
    processes: int
    models: _containers.RepeatedCompositeFieldContainer[ModelUse]
    tenants: _containers.RepeatedCompositeFieldContainer[TenantUse]
    latencies: _containers.RepeatedCompositeFieldContainer[ModelLatency]
    jobs: str
    job_queues: _containers.RepeatedCompositeFieldContainer[_jobs_pb2.JobQueue]
    def __init__(self, workers: _Optional[_Iterable[_Union[WorkerStatus, _Mapping]]] = ..., requests_total: _Optional[int] = ..., requests_failed_total: _Optional[int] = ..., queued: _Optional[int] = ..., process: _Optional[int] = ..., processes: _Optional[int] = ..., models: _Optional[_Iterable[_Union[ModelUse, _Mapping]]] = ..., tenants: _Optional[_Iterable[_Union[TenantUse, _Mapping]]] = ..., latencies: _Optional[_Iterable[_Union[ModelLatency, _Mapping]]] = ..., jobs: _Optional[str] = ..., job_queues: _Optional[_Iterable[_Union[_jobs_pb2.JobQueue, _Mapping]]] = ...) -> None: ...

class ModelUse(_message.Message):
    __slots__ = ("model_name", "queued", "slots_used", "slot_ms", "refused")
    class RefusedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_USED_FIELD_NUMBER: _ClassVar[int]
    SLOT_MS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    queued: int
    slots_used: int
    slot_ms: float
    refused: _containers.ScalarMap[str, int]
    def __init__(self, model_name: _Optional[str] = ..., queued: _Optional[int] = ..., slots_used: _Optional[int] = ..., slot_ms: _Optional[float] = ..., refused: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ModelLatency(_message.Message):
    __slots__ = ("model_name", "model_version", "bounds_s", "counts", "sum_s")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_S_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SUM_S_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    bounds_s: _containers.RepeatedScalarFieldContainer[float]
    counts: _containers.RepeatedScalarFieldContainer[int]
    sum_s: float
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., bounds_s: _Optional[_Iterable[float]] = ..., counts: _Optional[_Iterable[int]] = ..., sum_s: _Optional[float] = ...) -> None: ...

class TenantUse(_message.Message):
    __slots__ = ("spiffe_id", "under_way", "queued", "refused", "tenant", "answered_total", "failed_total")
    class RefusedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    UNDER_WAY_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    FAILED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    under_way: int
    queued: int
    refused: _containers.ScalarMap[str, int]
    tenant: str
    answered_total: int
    failed_total: int
    def __init__(self, spiffe_id: _Optional[str] = ..., under_way: _Optional[int] = ..., queued: _Optional[int] = ..., refused: _Optional[_Mapping[str, int]] = ..., tenant: _Optional[str] = ..., answered_total: _Optional[int] = ..., failed_total: _Optional[int] = ...) -> None: ...

class WorkerStatus(_message.Message):
    __slots__ = ("instance", "endpoint", "linked", "draining", "simulated", "slots", "slots_used", "models", "attested_until_ms", "mrenclave", "tcb_status", "counters", "tee", "td_measurement")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    LINKED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_USED_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    MRENCLAVE_FIELD_NUMBER: _ClassVar[int]
    TCB_STATUS_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    TEE_FIELD_NUMBER: _ClassVar[int]
    TD_MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    instance: str
    endpoint: str
    linked: bool
    draining: bool
    simulated: bool
    slots: int
    slots_used: int
    models: _containers.RepeatedScalarFieldContainer[str]
    attested_until_ms: int
    mrenclave: str
    tcb_status: str
    counters: _worker_pb2.WorkerCounters
    tee: str
    td_measurement: str
    def __init__(self, instance: _Optional[str] = ..., endpoint: _Optional[str] = ..., linked: bool = ..., draining: bool = ..., simulated: bool = ..., slots: _Optional[int] = ..., slots_used: _Optional[int] = ..., models: _Optional[_Iterable[str]] = ..., attested_until_ms: _Optional[int] = ..., mrenclave: _Optional[str] = ..., tcb_status: _Optional[str] = ..., counters: _Optional[_Union[_worker_pb2.WorkerCounters, _Mapping]] = ..., tee: _Optional[str] = ..., td_measurement: _Optional[str] = ...) -> None: ...
