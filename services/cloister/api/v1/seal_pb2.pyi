from cloister.api.v1 import worker_pb2 as _worker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SealedRequest(_message.Message):
    __slots__ = ("header", "recipients", "ciphertext")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    recipients: _containers.RepeatedCompositeFieldContainer[Recipient]
    ciphertext: bytes
    def __init__(self, header: _Optional[bytes] = ..., recipients: _Optional[_Iterable[_Union[Recipient, _Mapping]]] = ..., ciphertext: _Optional[bytes] = ...) -> None: ...

class RequestHeader(_message.Message):
    __slots__ = ("version", "request_id", "model_name", "model_version", "model_digest", "not_after_ms", "padding", "conversation")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    version: int
    request_id: bytes
    model_name: str
    model_version: str
    model_digest: bytes
    not_after_ms: int
    padding: int
    conversation: bool
    def __init__(self, version: _Optional[int] = ..., request_id: _Optional[bytes] = ..., model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., model_digest: _Optional[bytes] = ..., not_after_ms: _Optional[int] = ..., padding: _Optional[int] = ..., conversation: bool = ...) -> None: ...

class Recipient(_message.Message):
    __slots__ = ("instance", "session_id", "sequence", "wrapped_keys", "opening", "key_id")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEYS_FIELD_NUMBER: _ClassVar[int]
    OPENING_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    instance: str
    session_id: bytes
    sequence: int
    wrapped_keys: bytes
    opening: bytes
    key_id: bytes
    def __init__(self, instance: _Optional[str] = ..., session_id: _Optional[bytes] = ..., sequence: _Optional[int] = ..., wrapped_keys: _Optional[bytes] = ..., opening: _Optional[bytes] = ..., key_id: _Optional[bytes] = ...) -> None: ...

class SealedResponse(_message.Message):
    __slots__ = ("instance", "ciphertext")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    instance: str
    ciphertext: bytes
    def __init__(self, instance: _Optional[str] = ..., ciphertext: _Optional[bytes] = ...) -> None: ...

class OpenedResponse(_message.Message):
    __slots__ = ("response", "failure", "terms", "end", "receipt", "issued_at_ms", "leaf_index")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    response: bytes
    failure: _worker_pb2.Failure
    terms: ConversationTerms
    end: ConversationEnd
    receipt: Receipt
    issued_at_ms: int
    leaf_index: int
    def __init__(self, response: _Optional[bytes] = ..., failure: _Optional[_Union[_worker_pb2.Failure, _Mapping]] = ..., terms: _Optional[_Union[ConversationTerms, _Mapping]] = ..., end: _Optional[_Union[ConversationEnd, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., issued_at_ms: _Optional[int] = ..., leaf_index: _Optional[int] = ...) -> None: ...

class ConversationTerms(_message.Message):
    __slots__ = ("policy_digest", "ear_id", "most_requests")
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EAR_ID_FIELD_NUMBER: _ClassVar[int]
    MOST_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    policy_digest: bytes
    ear_id: str
    most_requests: int
    def __init__(self, policy_digest: _Optional[bytes] = ..., ear_id: _Optional[str] = ..., most_requests: _Optional[int] = ...) -> None: ...

class ConversationClose(_message.Message):
    __slots__ = ("sent", "received")
    SENT_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    sent: int
    received: int
    def __init__(self, sent: _Optional[int] = ..., received: _Optional[int] = ...) -> None: ...

class ConversationEnd(_message.Message):
    __slots__ = ("answered", "signature", "leaves")
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    answered: int
    signature: bytes
    leaves: bytes
    def __init__(self, answered: _Optional[int] = ..., signature: _Optional[bytes] = ..., leaves: _Optional[bytes] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("body", "tree_size", "leaf_index", "path", "signature")
    BODY_FIELD_NUMBER: _ClassVar[int]
    TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    tree_size: int
    leaf_index: int
    path: _containers.RepeatedScalarFieldContainer[bytes]
    signature: bytes
    def __init__(self, body: _Optional[bytes] = ..., tree_size: _Optional[int] = ..., leaf_index: _Optional[int] = ..., path: _Optional[_Iterable[bytes]] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ReceiptBody(_message.Message):
    __slots__ = ("version", "request_id", "request_sha256", "response_sha256", "model_name", "model_version", "model_digest", "policy_digest", "ear_id", "instance", "issued_at_ms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_SHA256_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EAR_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    version: int
    request_id: bytes
    request_sha256: bytes
    response_sha256: bytes
    model_name: str
    model_version: str
    model_digest: bytes
    policy_digest: bytes
    ear_id: str
    instance: str
    issued_at_ms: int
    def __init__(self, version: _Optional[int] = ..., request_id: _Optional[bytes] = ..., request_sha256: _Optional[bytes] = ..., response_sha256: _Optional[bytes] = ..., model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., model_digest: _Optional[bytes] = ..., policy_digest: _Optional[bytes] = ..., ear_id: _Optional[str] = ..., instance: _Optional[str] = ..., issued_at_ms: _Optional[int] = ...) -> None: ...

class SealedJob(_message.Message):
    __slots__ = ("header", "session_id", "wrapped_keys", "opening", "ciphertext")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEYS_FIELD_NUMBER: _ClassVar[int]
    OPENING_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    session_id: bytes
    wrapped_keys: bytes
    opening: bytes
    ciphertext: bytes
    def __init__(self, header: _Optional[bytes] = ..., session_id: _Optional[bytes] = ..., wrapped_keys: _Optional[bytes] = ..., opening: _Optional[bytes] = ..., ciphertext: _Optional[bytes] = ...) -> None: ...

class JobHeader(_message.Message):
    __slots__ = ("version", "job_id", "model_name", "model_version", "model_digest", "not_after_ms", "padding", "epoch", "key_id", "known_results")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KNOWN_RESULTS_FIELD_NUMBER: _ClassVar[int]
    version: int
    job_id: bytes
    model_name: str
    model_version: str
    model_digest: bytes
    not_after_ms: int
    padding: int
    epoch: int
    key_id: bytes
    known_results: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[int] = ..., job_id: _Optional[bytes] = ..., model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., model_digest: _Optional[bytes] = ..., not_after_ms: _Optional[int] = ..., padding: _Optional[int] = ..., epoch: _Optional[int] = ..., key_id: _Optional[bytes] = ..., known_results: _Optional[_Iterable[str]] = ...) -> None: ...

class SealedJobResult(_message.Message):
    __slots__ = ("salt", "ciphertext")
    SALT_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    salt: bytes
    ciphertext: bytes
    def __init__(self, salt: _Optional[bytes] = ..., ciphertext: _Optional[bytes] = ...) -> None: ...

class OpenedJobResult(_message.Message):
    __slots__ = ("response", "failure", "receipt", "attestation_result", "known_result")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_RESULT_FIELD_NUMBER: _ClassVar[int]
    KNOWN_RESULT_FIELD_NUMBER: _ClassVar[int]
    response: bytes
    failure: _worker_pb2.Failure
    receipt: Receipt
    attestation_result: str
    known_result: int
    def __init__(self, response: _Optional[bytes] = ..., failure: _Optional[_Union[_worker_pb2.Failure, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., attestation_result: _Optional[str] = ..., known_result: _Optional[int] = ...) -> None: ...

class KeptJob(_message.Message):
    __slots__ = ("version", "job_id", "model_name", "model_version", "model_digest", "not_after_ms", "padding", "response_seed", "transcript", "request_sha256", "request", "sealed_at_ms", "attestation_results")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_SEED_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SEALED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_RESULTS_FIELD_NUMBER: _ClassVar[int]
    version: int
    job_id: bytes
    model_name: str
    model_version: str
    model_digest: bytes
    not_after_ms: int
    padding: int
    response_seed: bytes
    transcript: bytes
    request_sha256: bytes
    request: bytes
    sealed_at_ms: int
    attestation_results: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[int] = ..., job_id: _Optional[bytes] = ..., model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., model_digest: _Optional[bytes] = ..., not_after_ms: _Optional[int] = ..., padding: _Optional[int] = ..., response_seed: _Optional[bytes] = ..., transcript: _Optional[bytes] = ..., request_sha256: _Optional[bytes] = ..., request: _Optional[bytes] = ..., sealed_at_ms: _Optional[int] = ..., attestation_results: _Optional[_Iterable[str]] = ...) -> None: ...

class ReceiptBundle(_message.Message):
    __slots__ = ("receipt", "request", "response", "attestation_result")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_RESULT_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    request: bytes
    response: bytes
    attestation_result: str
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., request: _Optional[bytes] = ..., response: _Optional[bytes] = ..., attestation_result: _Optional[str] = ...) -> None: ...
