from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Evidence(_message.Message):
    __slots__ = ("claims", "quote")
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    claims: bytes
    quote: bytes
    def __init__(self, claims: _Optional[bytes] = ..., quote: _Optional[bytes] = ...) -> None: ...

class EvidenceBundle(_message.Message):
    __slots__ = ("evidence", "collateral", "attestation_result")
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    COLLATERAL_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_RESULT_FIELD_NUMBER: _ClassVar[int]
    evidence: Evidence
    collateral: bytes
    attestation_result: str
    def __init__(self, evidence: _Optional[_Union[Evidence, _Mapping]] = ..., collateral: _Optional[bytes] = ..., attestation_result: _Optional[str] = ...) -> None: ...
