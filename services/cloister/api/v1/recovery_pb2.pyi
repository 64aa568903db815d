from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DealtShare(_message.Message):
    __slots__ = ("card", "sealed", "commitment")
    CARD_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    card: bytes
    sealed: bytes
    commitment: bytes
    def __init__(self, card: _Optional[bytes] = ..., sealed: _Optional[bytes] = ..., commitment: _Optional[bytes] = ...) -> None: ...

class RecoveryDeal(_message.Message):
    __slots__ = ("generation", "threshold", "public_key", "shares", "order")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    generation: int
    threshold: int
    public_key: bytes
    shares: _containers.RepeatedCompositeFieldContainer[DealtShare]
    order: bytes
    def __init__(self, generation: _Optional[int] = ..., threshold: _Optional[int] = ..., public_key: _Optional[bytes] = ..., shares: _Optional[_Iterable[_Union[DealtShare, _Mapping]]] = ..., order: _Optional[bytes] = ...) -> None: ...

class DealRecoveryRequest(_message.Message):
    __slots__ = ("cards", "threshold", "order")
    CARDS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    cards: _containers.RepeatedScalarFieldContainer[bytes]
    threshold: int
    order: bytes
    def __init__(self, cards: _Optional[_Iterable[bytes]] = ..., threshold: _Optional[int] = ..., order: _Optional[bytes] = ...) -> None: ...

class DealRecoveryResponse(_message.Message):
    __slots__ = ("generation", "secrets", "audit_sequence")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    generation: int
    secrets: int
    audit_sequence: int
    def __init__(self, generation: _Optional[int] = ..., secrets: _Optional[int] = ..., audit_sequence: _Optional[int] = ...) -> None: ...

class GetRecoveryRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRecoveryResponse(_message.Message):
    __slots__ = ("deal", "secrets", "root_lost", "session")
    DEAL_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    ROOT_LOST_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    deal: RecoveryDeal
    secrets: int
    root_lost: bool
    session: RecoverySession
    def __init__(self, deal: _Optional[_Union[RecoveryDeal, _Mapping]] = ..., secrets: _Optional[int] = ..., root_lost: bool = ..., session: _Optional[_Union[RecoverySession, _Mapping]] = ...) -> None: ...

class RecoverySession(_message.Message):
    __slots__ = ("session_id", "public_key", "generation", "threshold", "given", "refusals_left", "ends_at_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_LEFT_FIELD_NUMBER: _ClassVar[int]
    ENDS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    public_key: bytes
    generation: int
    threshold: int
    given: _containers.RepeatedScalarFieldContainer[int]
    refusals_left: int
    ends_at_ms: int
    def __init__(self, session_id: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., generation: _Optional[int] = ..., threshold: _Optional[int] = ..., given: _Optional[_Iterable[int]] = ..., refusals_left: _Optional[int] = ..., ends_at_ms: _Optional[int] = ...) -> None: ...

class BeginRecoveryRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ContributeShareRequest(_message.Message):
    __slots__ = ("session_id", "sealed_share")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEALED_SHARE_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    sealed_share: bytes
    def __init__(self, session_id: _Optional[bytes] = ..., sealed_share: _Optional[bytes] = ...) -> None: ...

class ContributeShareResponse(_message.Message):
    __slots__ = ("missing", "restored", "secrets", "audit_sequence")
    MISSING_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    missing: int
    restored: bool
    secrets: int
    audit_sequence: int
    def __init__(self, missing: _Optional[int] = ..., restored: bool = ..., secrets: _Optional[int] = ..., audit_sequence: _Optional[int] = ...) -> None: ...
