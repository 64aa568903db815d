from cloister.api.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GatewayFrame(_message.Message):
    __slots__ = ("calls", "cancelled", "orders")
    CALLS_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[InferCall]
    cancelled: _containers.RepeatedScalarFieldContainer[int]
    orders: _containers.RepeatedCompositeFieldContainer[ModelOrder]
    def __init__(self, calls: _Optional[_Iterable[_Union[InferCall, _Mapping]]] = ..., cancelled: _Optional[_Iterable[int]] = ..., orders: _Optional[_Iterable[_Union[ModelOrder, _Mapping]]] = ...) -> None: ...

class ModelOrder(_message.Message):
    __slots__ = ("order_id", "kind", "model_name", "model_version")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[ModelOrder.Kind]
        KIND_LOAD: _ClassVar[ModelOrder.Kind]
        KIND_UNLOAD: _ClassVar[ModelOrder.Kind]
    KIND_UNSPECIFIED: ModelOrder.Kind
    KIND_LOAD: ModelOrder.Kind
    KIND_UNLOAD: ModelOrder.Kind
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    order_id: int
    kind: ModelOrder.Kind
    model_name: str
    model_version: str
    def __init__(self, order_id: _Optional[int] = ..., kind: _Optional[_Union[ModelOrder.Kind, str]] = ..., model_name: _Optional[str] = ..., model_version: _Optional[str] = ...) -> None: ...

class OrderResult(_message.Message):
    __slots__ = ("order_id", "failure")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    order_id: int
    failure: Failure
    def __init__(self, order_id: _Optional[int] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class InferCall(_message.Message):
    __slots__ = ("call_id", "request", "timeout_ms", "tenant", "trace_id", "model_version")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    request: bytes
    timeout_ms: int
    tenant: str
    trace_id: bytes
    model_version: str
    def __init__(self, call_id: _Optional[int] = ..., request: _Optional[bytes] = ..., timeout_ms: _Optional[int] = ..., tenant: _Optional[str] = ..., trace_id: _Optional[bytes] = ..., model_version: _Optional[str] = ...) -> None: ...

class WorkerFrame(_message.Message):
    __slots__ = ("models", "models_changed", "slots", "results", "draining", "order_results", "report")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MODELS_CHANGED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    ORDER_RESULTS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelState]
    models_changed: bool
    slots: int
    results: _containers.RepeatedCompositeFieldContainer[InferResult]
    draining: bool
    order_results: _containers.RepeatedCompositeFieldContainer[OrderResult]
    report: WorkerReport
    def __init__(self, models: _Optional[_Iterable[_Union[ModelState, _Mapping]]] = ..., models_changed: bool = ..., slots: _Optional[int] = ..., results: _Optional[_Iterable[_Union[InferResult, _Mapping]]] = ..., draining: bool = ..., order_results: _Optional[_Iterable[_Union[OrderResult, _Mapping]]] = ..., report: _Optional[_Union[WorkerReport, _Mapping]] = ...) -> None: ...

class WorkerReport(_message.Message):
    __slots__ = ("seal_us", "evaluations", "counters", "next_frame_bytes")
    SEAL_US_FIELD_NUMBER: _ClassVar[int]
    EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    seal_us: int
    evaluations: _containers.RepeatedCompositeFieldContainer[Evaluation]
    counters: WorkerCounters
    next_frame_bytes: int
    def __init__(self, seal_us: _Optional[int] = ..., evaluations: _Optional[_Iterable[_Union[Evaluation, _Mapping]]] = ..., counters: _Optional[_Union[WorkerCounters, _Mapping]] = ..., next_frame_bytes: _Optional[int] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("model_version", "requests", "rows", "open_us", "wait_us", "compute_us", "encode_us")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OPEN_US_FIELD_NUMBER: _ClassVar[int]
    WAIT_US_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    ENCODE_US_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    requests: int
    rows: int
    open_us: int
    wait_us: int
    compute_us: int
    encode_us: int
    def __init__(self, model_version: _Optional[str] = ..., requests: _Optional[int] = ..., rows: _Optional[int] = ..., open_us: _Optional[int] = ..., wait_us: _Optional[int] = ..., compute_us: _Optional[int] = ..., encode_us: _Optional[int] = ...) -> None: ...

class WorkerCounters(_message.Message):
    __slots__ = ("memory_bytes", "under_way", "models")
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    UNDER_WAY_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    memory_bytes: int
    under_way: int
    models: _containers.RepeatedCompositeFieldContainer[ModelCounters]
    def __init__(self, memory_bytes: _Optional[int] = ..., under_way: _Optional[int] = ..., models: _Optional[_Iterable[_Union[ModelCounters, _Mapping]]] = ...) -> None: ...

class ModelCounters(_message.Message):
    __slots__ = ("name", "version", "evaluations", "requests", "rows", "batches", "waiting")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    evaluations: int
    requests: int
    rows: int
    batches: _containers.RepeatedScalarFieldContainer[int]
    waiting: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., evaluations: _Optional[int] = ..., requests: _Optional[int] = ..., rows: _Optional[int] = ..., batches: _Optional[_Iterable[int]] = ..., waiting: _Optional[int] = ...) -> None: ...

class ModelState(_message.Message):
    __slots__ = ("name", "version", "digest", "allow_plain", "metadata", "manifest", "state", "reason", "job_epoch", "calls_per_slot")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_READY: _ClassVar[ModelState.State]
        STATE_LOADING: _ClassVar[ModelState.State]
        STATE_UNAVAILABLE: _ClassVar[ModelState.State]
    STATE_READY: ModelState.State
    STATE_LOADING: ModelState.State
    STATE_UNAVAILABLE: ModelState.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PLAIN_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    JOB_EPOCH_FIELD_NUMBER: _ClassVar[int]
    CALLS_PER_SLOT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: bytes
    allow_plain: bool
    metadata: bytes
    manifest: _model_pb2.SignedManifest
    state: ModelState.State
    reason: str
    job_epoch: _model_pb2.SignedJobEpoch
    calls_per_slot: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[bytes] = ..., allow_plain: bool = ..., metadata: _Optional[bytes] = ..., manifest: _Optional[_Union[_model_pb2.SignedManifest, _Mapping]] = ..., state: _Optional[_Union[ModelState.State, str]] = ..., reason: _Optional[str] = ..., job_epoch: _Optional[_Union[_model_pb2.SignedJobEpoch, _Mapping]] = ..., calls_per_slot: _Optional[int] = ...) -> None: ...

class InferResult(_message.Message):
    __slots__ = ("call_id", "response", "failure", "evaluation")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    response: bytes
    failure: Failure
    evaluation: int
    def __init__(self, call_id: _Optional[int] = ..., response: _Optional[bytes] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., evaluation: _Optional[int] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("error", "reason", "message")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    error: str
    reason: str
    message: str
    def __init__(self, error: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
