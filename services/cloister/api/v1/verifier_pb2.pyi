from cloister.api.v1 import audit_pb2 as _audit_pb2
from cloister.api.v1 import evidence_pb2 as _evidence_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    PURPOSE_MESH: _ClassVar[Purpose]
    PURPOSE_KEY_RELEASE: _ClassVar[Purpose]

class RevocationKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVOCATION_KIND_UNSPECIFIED: _ClassVar[RevocationKind]
    REVOCATION_KIND_MEASUREMENT: _ClassVar[RevocationKind]
    REVOCATION_KIND_SIGNER: _ClassVar[RevocationKind]
    REVOCATION_KIND_PLATFORM: _ClassVar[RevocationKind]
    REVOCATION_KIND_INSTANCE: _ClassVar[RevocationKind]
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_MESH: Purpose
PURPOSE_KEY_RELEASE: Purpose
REVOCATION_KIND_UNSPECIFIED: RevocationKind
REVOCATION_KIND_MEASUREMENT: RevocationKind
REVOCATION_KIND_SIGNER: RevocationKind
REVOCATION_KIND_PLATFORM: RevocationKind
REVOCATION_KIND_INSTANCE: RevocationKind

class ChallengeRequest(_message.Message):
    __slots__ = ("purpose", "tls_spki_sha256")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    TLS_SPKI_SHA256_FIELD_NUMBER: _ClassVar[int]
    purpose: Purpose
    tls_spki_sha256: bytes
    def __init__(self, purpose: _Optional[_Union[Purpose, str]] = ..., tls_spki_sha256: _Optional[bytes] = ...) -> None: ...

class ChallengeResponse(_message.Message):
    __slots__ = ("challenge_id", "nonce", "expires_at_ms")
    CHALLENGE_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    challenge_id: bytes
    nonce: bytes
    expires_at_ms: int
    def __init__(self, challenge_id: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class AppraiseRequest(_message.Message):
    __slots__ = ("challenge_id", "evidence", "tls_spki", "endpoint")
    CHALLENGE_ID_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    TLS_SPKI_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    challenge_id: bytes
    evidence: _evidence_pb2.Evidence
    tls_spki: bytes
    endpoint: str
    def __init__(self, challenge_id: _Optional[bytes] = ..., evidence: _Optional[_Union[_evidence_pb2.Evidence, _Mapping]] = ..., tls_spki: _Optional[bytes] = ..., endpoint: _Optional[str] = ...) -> None: ...

class AppraiseResponse(_message.Message):
    __slots__ = ("attestation_result", "certificate_chain", "expires_at_ms")
    ATTESTATION_RESULT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_CHAIN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    attestation_result: str
    certificate_chain: bytes
    expires_at_ms: int
    def __init__(self, attestation_result: _Optional[str] = ..., certificate_chain: _Optional[bytes] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaveResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchAttestedRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AttestedWorker(_message.Message):
    __slots__ = ("instance", "spiffe_id", "endpoint", "tls_spki_sha256", "server_name", "bundle", "expires_at_ms", "simulated")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    TLS_SPKI_SHA256_FIELD_NUMBER: _ClassVar[int]
    SERVER_NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    instance: str
    spiffe_id: str
    endpoint: str
    tls_spki_sha256: bytes
    server_name: str
    bundle: _evidence_pb2.EvidenceBundle
    expires_at_ms: int
    simulated: bool
    def __init__(self, instance: _Optional[str] = ..., spiffe_id: _Optional[str] = ..., endpoint: _Optional[str] = ..., tls_spki_sha256: _Optional[bytes] = ..., server_name: _Optional[str] = ..., bundle: _Optional[_Union[_evidence_pb2.EvidenceBundle, _Mapping]] = ..., expires_at_ms: _Optional[int] = ..., simulated: bool = ...) -> None: ...

class AttestedEvent(_message.Message):
    __slots__ = ("kind", "worker", "reason")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[AttestedEvent.Kind]
        KIND_JOINED: _ClassVar[AttestedEvent.Kind]
        KIND_RENEWED: _ClassVar[AttestedEvent.Kind]
        KIND_GONE: _ClassVar[AttestedEvent.Kind]
        KIND_CURRENT: _ClassVar[AttestedEvent.Kind]
    KIND_UNSPECIFIED: AttestedEvent.Kind
    KIND_JOINED: AttestedEvent.Kind
    KIND_RENEWED: AttestedEvent.Kind
    KIND_GONE: AttestedEvent.Kind
    KIND_CURRENT: AttestedEvent.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    kind: AttestedEvent.Kind
    worker: AttestedWorker
    reason: str
    def __init__(self, kind: _Optional[_Union[AttestedEvent.Kind, str]] = ..., worker: _Optional[_Union[AttestedWorker, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class ListAppraisalsRequest(_message.Message):
    __slots__ = ("after_sequence", "newest")
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    after_sequence: int
    newest: int
    def __init__(self, after_sequence: _Optional[int] = ..., newest: _Optional[int] = ...) -> None: ...

class GetKeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetKeysResponse(_message.Message):
    __slots__ = ("jwks", "key_set", "witness")
    JWKS_FIELD_NUMBER: _ClassVar[int]
    KEY_SET_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    jwks: str
    key_set: bytes
    witness: str
    def __init__(self, jwks: _Optional[str] = ..., key_set: _Optional[bytes] = ..., witness: _Optional[str] = ...) -> None: ...

class Revocation(_message.Message):
    __slots__ = ("kind", "value", "reason", "by", "revoked_at_ms", "ends_at_ms")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    kind: RevocationKind
    value: str
    reason: str
    by: str
    revoked_at_ms: int
    ends_at_ms: int
    def __init__(self, kind: _Optional[_Union[RevocationKind, str]] = ..., value: _Optional[str] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ..., revoked_at_ms: _Optional[int] = ..., ends_at_ms: _Optional[int] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("kind", "value", "reason")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    kind: RevocationKind
    value: str
    reason: str
    def __init__(self, kind: _Optional[_Union[RevocationKind, str]] = ..., value: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeResponse(_message.Message):
    __slots__ = ("audit_sequence", "members")
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    audit_sequence: int
    members: int
    def __init__(self, audit_sequence: _Optional[int] = ..., members: _Optional[int] = ...) -> None: ...

class LiftRevocationRequest(_message.Message):
    __slots__ = ("kind", "value", "reason", "order")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    kind: RevocationKind
    value: str
    reason: str
    order: bytes
    def __init__(self, kind: _Optional[_Union[RevocationKind, str]] = ..., value: _Optional[str] = ..., reason: _Optional[str] = ..., order: _Optional[bytes] = ...) -> None: ...

class LiftRevocationResponse(_message.Message):
    __slots__ = ("audit_sequence",)
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    audit_sequence: int
    def __init__(self, audit_sequence: _Optional[int] = ...) -> None: ...

class ListRevocationsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRevocationsResponse(_message.Message):
    __slots__ = ("revocations",)
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    revocations: _containers.RepeatedCompositeFieldContainer[Revocation]
    def __init__(self, revocations: _Optional[_Iterable[_Union[Revocation, _Mapping]]] = ...) -> None: ...

class WatchTrustRequest(_message.Message):
    __slots__ = ("attestation_result",)
    ATTESTATION_RESULT_FIELD_NUMBER: _ClassVar[int]
    attestation_result: str
    def __init__(self, attestation_result: _Optional[str] = ...) -> None: ...

class TrustEvent(_message.Message):
    __slots__ = ("sequence", "listed", "revocations", "key_set")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LISTED_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    KEY_SET_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    listed: bool
    revocations: _containers.RepeatedCompositeFieldContainer[Revocation]
    key_set: bytes
    def __init__(self, sequence: _Optional[int] = ..., listed: bool = ..., revocations: _Optional[_Iterable[_Union[Revocation, _Mapping]]] = ..., key_set: _Optional[bytes] = ...) -> None: ...

class ApplyPolicyRequest(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: bytes
    def __init__(self, policy: _Optional[bytes] = ...) -> None: ...

class ApplyPolicyResponse(_message.Message):
    __slots__ = ("version", "digest", "stood", "fallen", "unjudged")
    class Fallen(_message.Message):
        __slots__ = ("instance", "step", "reason")
        INSTANCE_FIELD_NUMBER: _ClassVar[int]
        STEP_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        instance: str
        step: int
        reason: str
        def __init__(self, instance: _Optional[str] = ..., step: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STOOD_FIELD_NUMBER: _ClassVar[int]
    FALLEN_FIELD_NUMBER: _ClassVar[int]
    UNJUDGED_FIELD_NUMBER: _ClassVar[int]
    version: int
    digest: bytes
    stood: int
    fallen: _containers.RepeatedCompositeFieldContainer[ApplyPolicyResponse.Fallen]
    unjudged: int
    def __init__(self, version: _Optional[int] = ..., digest: _Optional[bytes] = ..., stood: _Optional[int] = ..., fallen: _Optional[_Iterable[_Union[ApplyPolicyResponse.Fallen, _Mapping]]] = ..., unjudged: _Optional[int] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy_id", "version", "digest", "policy", "signers")
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SIGNERS_FIELD_NUMBER: _ClassVar[int]
    policy_id: str
    version: int
    digest: bytes
    policy: bytes
    signers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policy_id: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[bytes] = ..., policy: _Optional[bytes] = ..., signers: _Optional[_Iterable[str]] = ...) -> None: ...

class ListEvidenceRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetEvidenceRequest(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    def __init__(self, nonce: _Optional[bytes] = ...) -> None: ...

class GetEvidenceResponse(_message.Message):
    __slots__ = ("bundle", "mesh_trust")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    MESH_TRUST_FIELD_NUMBER: _ClassVar[int]
    bundle: _evidence_pb2.EvidenceBundle
    mesh_trust: bytes
    def __init__(self, bundle: _Optional[_Union[_evidence_pb2.EvidenceBundle, _Mapping]] = ..., mesh_trust: _Optional[bytes] = ...) -> None: ...

class WitnessRequest(_message.Message):
    __slots__ = ("writer", "old_size", "proof", "checkpoint", "log_key", "resumed", "resumed_sequence", "resumed_proof", "leaving", "writer_name")
    WRITER_FIELD_NUMBER: _ClassVar[int]
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    LOG_KEY_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    RESUMED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESUMED_PROOF_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    WRITER_NAME_FIELD_NUMBER: _ClassVar[int]
    writer: bytes
    old_size: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: str
    log_key: str
    resumed: bytes
    resumed_sequence: int
    resumed_proof: _containers.RepeatedScalarFieldContainer[bytes]
    leaving: bool
    writer_name: str
    def __init__(self, writer: _Optional[bytes] = ..., old_size: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[str] = ..., log_key: _Optional[str] = ..., resumed: _Optional[bytes] = ..., resumed_sequence: _Optional[int] = ..., resumed_proof: _Optional[_Iterable[bytes]] = ..., leaving: bool = ..., writer_name: _Optional[str] = ...) -> None: ...

class WitnessResponse(_message.Message):
    __slots__ = ("cosignature",)
    COSIGNATURE_FIELD_NUMBER: _ClassVar[int]
    cosignature: str
    def __init__(self, cosignature: _Optional[str] = ...) -> None: ...

class GetWitnessedRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetWitnessedResponse(_message.Message):
    __slots__ = ("checkpoint", "witness", "log_key", "lease_left_ms", "writer_name")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    LOG_KEY_FIELD_NUMBER: _ClassVar[int]
    LEASE_LEFT_MS_FIELD_NUMBER: _ClassVar[int]
    WRITER_NAME_FIELD_NUMBER: _ClassVar[int]
    checkpoint: str
    witness: str
    log_key: str
    lease_left_ms: int
    writer_name: str
    def __init__(self, checkpoint: _Optional[str] = ..., witness: _Optional[str] = ..., log_key: _Optional[str] = ..., lease_left_ms: _Optional[int] = ..., writer_name: _Optional[str] = ...) -> None: ...
