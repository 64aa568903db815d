from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class AuditRecord(_message.Message):
    __slots__ = ("sequence", "record", "leaf_hash")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    LEAF_HASH_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    record: bytes
    leaf_hash: bytes
    def __init__(self, sequence: _Optional[int] = ..., record: _Optional[bytes] = ..., leaf_hash: _Optional[bytes] = ...) -> None: ...
