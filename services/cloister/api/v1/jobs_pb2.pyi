from cloister.api.v1 import worker_pb2 as _worker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobPriority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_PRIORITY_NORMAL: _ClassVar[JobPriority]
    JOB_PRIORITY_HIGH: _ClassVar[JobPriority]
    JOB_PRIORITY_LOW: _ClassVar[JobPriority]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_ANSWERED: _ClassVar[JobState]
    JOB_STATE_DEAD: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
JOB_PRIORITY_NORMAL: JobPriority
JOB_PRIORITY_HIGH: JobPriority
JOB_PRIORITY_LOW: JobPriority
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_ANSWERED: JobState
JOB_STATE_DEAD: JobState
JOB_STATE_CANCELLED: JobState

class Submission(_message.Message):
    __slots__ = ("job_id", "request", "not_after_ms", "key", "priority", "order_key", "result_ttl_s")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    ORDER_KEY_FIELD_NUMBER: _ClassVar[int]
    RESULT_TTL_S_FIELD_NUMBER: _ClassVar[int]
    job_id: bytes
    request: bytes
    not_after_ms: int
    key: str
    priority: JobPriority
    order_key: str
    result_ttl_s: int
    def __init__(self, job_id: _Optional[bytes] = ..., request: _Optional[bytes] = ..., not_after_ms: _Optional[int] = ..., key: _Optional[str] = ..., priority: _Optional[_Union[JobPriority, str]] = ..., order_key: _Optional[str] = ..., result_ttl_s: _Optional[int] = ...) -> None: ...

class KeptSubmission(_message.Message):
    __slots__ = ("ticket", "model_name", "job")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    ticket: bytes
    model_name: str
    job: Submission
    def __init__(self, ticket: _Optional[bytes] = ..., model_name: _Optional[str] = ..., job: _Optional[_Union[Submission, _Mapping]] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("model_name", "jobs")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    jobs: _containers.RepeatedCompositeFieldContainer[Submission]
    def __init__(self, model_name: _Optional[str] = ..., jobs: _Optional[_Iterable[_Union[Submission, _Mapping]]] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Submitted]
    def __init__(self, jobs: _Optional[_Iterable[_Union[Submitted, _Mapping]]] = ...) -> None: ...

class Submitted(_message.Message):
    __slots__ = ("job_id", "existed", "failure", "retry_after_s")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    job_id: bytes
    existed: bool
    failure: _worker_pb2.Failure
    retry_after_s: float
    def __init__(self, job_id: _Optional[bytes] = ..., existed: bool = ..., failure: _Optional[_Union[_worker_pb2.Failure, _Mapping]] = ..., retry_after_s: _Optional[float] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("model_name", "job_ids", "without_responses", "ends_only")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_RESPONSES_FIELD_NUMBER: _ClassVar[int]
    ENDS_ONLY_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    job_ids: _containers.RepeatedScalarFieldContainer[bytes]
    without_responses: bool
    ends_only: bool
    def __init__(self, model_name: _Optional[str] = ..., job_ids: _Optional[_Iterable[bytes]] = ..., without_responses: bool = ..., ends_only: bool = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ...) -> None: ...

class ResultRequest(_message.Message):
    __slots__ = ("model_name", "job_id", "wait_ms", "forget")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    job_id: bytes
    wait_ms: int
    forget: bool
    def __init__(self, model_name: _Optional[str] = ..., job_id: _Optional[bytes] = ..., wait_ms: _Optional[int] = ..., forget: bool = ...) -> None: ...

class ResultResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("model_name", "job_ids")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    job_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, model_name: _Optional[str] = ..., job_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ...) -> None: ...

class ForgetRequest(_message.Message):
    __slots__ = ("model_name", "job_ids")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    job_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, model_name: _Optional[str] = ..., job_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ForgetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Job(_message.Message):
    __slots__ = ("job_id", "state", "response", "failure", "attempts", "submitted_ms", "ended_ms", "kept_until_ms")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_MS_FIELD_NUMBER: _ClassVar[int]
    KEPT_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    job_id: bytes
    state: JobState
    response: bytes
    failure: _worker_pb2.Failure
    attempts: int
    submitted_ms: int
    ended_ms: int
    kept_until_ms: int
    def __init__(self, job_id: _Optional[bytes] = ..., state: _Optional[_Union[JobState, str]] = ..., response: _Optional[bytes] = ..., failure: _Optional[_Union[_worker_pb2.Failure, _Mapping]] = ..., attempts: _Optional[int] = ..., submitted_ms: _Optional[int] = ..., ended_ms: _Optional[int] = ..., kept_until_ms: _Optional[int] = ...) -> None: ...

class ListQueuesRequest(_message.Message):
    __slots__ = ("model_name",)
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    def __init__(self, model_name: _Optional[str] = ...) -> None: ...

class ListQueuesResponse(_message.Message):
    __slots__ = ("queues",)
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[JobQueue]
    def __init__(self, queues: _Optional[_Iterable[_Union[JobQueue, _Mapping]]] = ...) -> None: ...

class JobQueue(_message.Message):
    __slots__ = ("model_name", "waiting", "running", "bytes", "oldest_s", "dead")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_S_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    waiting: int
    running: int
    bytes: int
    oldest_s: float
    dead: int
    def __init__(self, model_name: _Optional[str] = ..., waiting: _Optional[int] = ..., running: _Optional[int] = ..., bytes: _Optional[int] = ..., oldest_s: _Optional[float] = ..., dead: _Optional[int] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("model_name", "after", "most")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    after: str
    most: int
    def __init__(self, model_name: _Optional[str] = ..., after: _Optional[str] = ..., most: _Optional[int] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("letters", "next")
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    next: str
    def __init__(self, letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("job_id", "tenant", "failure", "attempts", "submitted_ms", "ended_ms")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_MS_FIELD_NUMBER: _ClassVar[int]
    job_id: bytes
    tenant: str
    failure: _worker_pb2.Failure
    attempts: int
    submitted_ms: int
    ended_ms: int
    def __init__(self, job_id: _Optional[bytes] = ..., tenant: _Optional[str] = ..., failure: _Optional[_Union[_worker_pb2.Failure, _Mapping]] = ..., attempts: _Optional[int] = ..., submitted_ms: _Optional[int] = ..., ended_ms: _Optional[int] = ...) -> None: ...
