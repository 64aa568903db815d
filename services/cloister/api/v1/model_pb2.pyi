from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SignedManifest(_message.Message):
    __slots__ = ("manifest", "signature", "public_key")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    signature: bytes
    public_key: bytes
    def __init__(self, manifest: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., public_key: _Optional[bytes] = ...) -> None: ...

class SignedReleasePolicy(_message.Message):
    __slots__ = ("policy", "signature", "signer_sets")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SIGNER_SETS_FIELD_NUMBER: _ClassVar[int]
    policy: bytes
    signature: bytes
    signer_sets: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, policy: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., signer_sets: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SignedJobEpoch(_message.Message):
    __slots__ = ("statement", "signature")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    statement: bytes
    signature: bytes
    def __init__(self, statement: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class JobEpoch(_message.Message):
    __slots__ = ("cluster", "instance", "ear_id", "model_name", "epoch", "hpke_suite", "hpke_public", "seal_until_ms", "open_until_ms", "policy")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    EAR_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HPKE_SUITE_FIELD_NUMBER: _ClassVar[int]
    HPKE_PUBLIC_FIELD_NUMBER: _ClassVar[int]
    SEAL_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    OPEN_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    instance: str
    ear_id: str
    model_name: str
    epoch: int
    hpke_suite: str
    hpke_public: bytes
    seal_until_ms: int
    open_until_ms: int
    policy: SignedReleasePolicy
    def __init__(self, cluster: _Optional[str] = ..., instance: _Optional[str] = ..., ear_id: _Optional[str] = ..., model_name: _Optional[str] = ..., epoch: _Optional[int] = ..., hpke_suite: _Optional[str] = ..., hpke_public: _Optional[bytes] = ..., seal_until_ms: _Optional[int] = ..., open_until_ms: _Optional[int] = ..., policy: _Optional[_Union[SignedReleasePolicy, _Mapping]] = ...) -> None: ...
