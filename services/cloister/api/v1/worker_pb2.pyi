from cloister.api.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GatewayFrame(_message.Message):
    __slots__ = ("calls", "cancelled")
    CALLS_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[InferCall]
    cancelled: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, calls: _Optional[_Iterable[_Union[InferCall, _Mapping]]] = ..., cancelled: _Optional[_Iterable[int]] = ...) -> None: ...

class InferCall(_message.Message):
    __slots__ = ("call_id", "request", "timeout_ms", "tenant")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    request: bytes
    timeout_ms: int
    tenant: str
    def __init__(self, call_id: _Optional[int] = ..., request: _Optional[bytes] = ..., timeout_ms: _Optional[int] = ..., tenant: _Optional[str] = ...) -> None: ...

class WorkerFrame(_message.Message):
    __slots__ = ("models", "models_changed", "slots", "results", "draining")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MODELS_CHANGED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelState]
    models_changed: bool
    slots: int
    results: _containers.RepeatedCompositeFieldContainer[InferResult]
    draining: bool
    def __init__(self, models: _Optional[_Iterable[_Union[ModelState, _Mapping]]] = ..., models_changed: bool = ..., slots: _Optional[int] = ..., results: _Optional[_Iterable[_Union[InferResult, _Mapping]]] = ..., draining: bool = ...) -> None: ...

class ModelState(_message.Message):
    __slots__ = ("name", "version", "digest", "allow_plain", "metadata", "manifest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PLAIN_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: bytes
    allow_plain: bool
    metadata: bytes
    manifest: _model_pb2.SignedManifest
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[bytes] = ..., allow_plain: bool = ..., metadata: _Optional[bytes] = ..., manifest: _Optional[_Union[_model_pb2.SignedManifest, _Mapping]] = ...) -> None: ...

class InferResult(_message.Message):
    __slots__ = ("call_id", "response", "failure")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    response: bytes
    failure: Failure
    def __init__(self, call_id: _Optional[int] = ..., response: _Optional[bytes] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("error", "reason", "message")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    error: str
    reason: str
    message: str
    def __init__(self, error: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
