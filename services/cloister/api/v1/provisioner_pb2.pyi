from cloister.api.v1 import audit_pb2 as _audit_pb2
from cloister.api.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union
from cloister.api.v1.model_pb2 import SignedManifest as SignedManifest
from cloister.api.v1.model_pb2 import SignedReleasePolicy as SignedReleasePolicy
from cloister.api.v1.model_pb2 import SignedJobEpoch as SignedJobEpoch
from cloister.api.v1.model_pb2 import JobEpoch as JobEpoch

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterModelRequest(_message.Message):
    __slots__ = ("manifest", "model_key", "approval")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_KEY_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    manifest: _model_pb2.SignedManifest
    model_key: bytes
    approval: bytes
    def __init__(self, manifest: _Optional[_Union[_model_pb2.SignedManifest, _Mapping]] = ..., model_key: _Optional[bytes] = ..., approval: _Optional[bytes] = ...) -> None: ...

class RegisterModelResponse(_message.Message):
    __slots__ = ("audit_sequence",)
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    audit_sequence: int
    def __init__(self, audit_sequence: _Optional[int] = ...) -> None: ...

class SignerRule(_message.Message):
    __slots__ = ("mrsigner", "isvprodid", "min_isvsvn")
    MRSIGNER_FIELD_NUMBER: _ClassVar[int]
    ISVPRODID_FIELD_NUMBER: _ClassVar[int]
    MIN_ISVSVN_FIELD_NUMBER: _ClassVar[int]
    mrsigner: str
    isvprodid: int
    min_isvsvn: int
    def __init__(self, mrsigner: _Optional[str] = ..., isvprodid: _Optional[int] = ..., min_isvsvn: _Optional[int] = ...) -> None: ...

class ReleasePolicy(_message.Message):
    __slots__ = ("model_name", "version", "mrenclave", "signers", "tcb_statuses", "allow_simulated", "allow_plain", "lease_s", "min_model_version", "cluster", "td_measurement", "log_generation", "platforms", "releases_per_hour", "signer_set")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MRENCLAVE_FIELD_NUMBER: _ClassVar[int]
    SIGNERS_FIELD_NUMBER: _ClassVar[int]
    TCB_STATUSES_FIELD_NUMBER: _ClassVar[int]
    ALLOW_SIMULATED_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PLAIN_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    MIN_MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    TD_MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    LOG_GENERATION_FIELD_NUMBER: _ClassVar[int]
    PLATFORMS_FIELD_NUMBER: _ClassVar[int]
    RELEASES_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    SIGNER_SET_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    version: int
    mrenclave: _containers.RepeatedScalarFieldContainer[str]
    signers: _containers.RepeatedCompositeFieldContainer[SignerRule]
    tcb_statuses: _containers.RepeatedScalarFieldContainer[str]
    allow_simulated: bool
    allow_plain: bool
    lease_s: int
    min_model_version: int
    cluster: str
    td_measurement: _containers.RepeatedScalarFieldContainer[str]
    log_generation: int
    platforms: Platforms
    releases_per_hour: int
    signer_set: int
    def __init__(self, model_name: _Optional[str] = ..., version: _Optional[int] = ..., mrenclave: _Optional[_Iterable[str]] = ..., signers: _Optional[_Iterable[_Union[SignerRule, _Mapping]]] = ..., tcb_statuses: _Optional[_Iterable[str]] = ..., allow_simulated: bool = ..., allow_plain: bool = ..., lease_s: _Optional[int] = ..., min_model_version: _Optional[int] = ..., cluster: _Optional[str] = ..., td_measurement: _Optional[_Iterable[str]] = ..., log_generation: _Optional[int] = ..., platforms: _Optional[_Union[Platforms, _Mapping]] = ..., releases_per_hour: _Optional[int] = ..., signer_set: _Optional[int] = ...) -> None: ...

class Platforms(_message.Message):
    __slots__ = ("ppid_sha256",)
    PPID_SHA256_FIELD_NUMBER: _ClassVar[int]
    ppid_sha256: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ppid_sha256: _Optional[_Iterable[str]] = ...) -> None: ...

class SetReleasePolicyRequest(_message.Message):
    __slots__ = ("policy", "signature")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    policy: bytes
    signature: bytes
    def __init__(self, policy: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SetReleasePolicyResponse(_message.Message):
    __slots__ = ("audit_sequence",)
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    audit_sequence: int
    def __init__(self, audit_sequence: _Optional[int] = ...) -> None: ...

class SetSignersRequest(_message.Message):
    __slots__ = ("signer_set",)
    SIGNER_SET_FIELD_NUMBER: _ClassVar[int]
    signer_set: bytes
    def __init__(self, signer_set: _Optional[bytes] = ...) -> None: ...

class SetSignersResponse(_message.Message):
    __slots__ = ("audit_sequence",)
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    audit_sequence: int
    def __init__(self, audit_sequence: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelSummary(_message.Message):
    __slots__ = ("name", "version", "owner", "manifest", "policy", "held_since", "signer_sets", "signed_policy", "leases", "leases_until_ms", "withdrawal")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    HELD_SINCE_FIELD_NUMBER: _ClassVar[int]
    SIGNER_SETS_FIELD_NUMBER: _ClassVar[int]
    SIGNED_POLICY_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LEASES_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    owner: str
    manifest: _model_pb2.SignedManifest
    policy: ReleasePolicy
    held_since: int
    signer_sets: _containers.RepeatedScalarFieldContainer[bytes]
    signed_policy: _model_pb2.SignedReleasePolicy
    leases: int
    leases_until_ms: int
    withdrawal: Withdrawal
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., owner: _Optional[str] = ..., manifest: _Optional[_Union[_model_pb2.SignedManifest, _Mapping]] = ..., policy: _Optional[_Union[ReleasePolicy, _Mapping]] = ..., held_since: _Optional[int] = ..., signer_sets: _Optional[_Iterable[bytes]] = ..., signed_policy: _Optional[_Union[_model_pb2.SignedReleasePolicy, _Mapping]] = ..., leases: _Optional[int] = ..., leases_until_ms: _Optional[int] = ..., withdrawal: _Optional[_Union[Withdrawal, _Mapping]] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelSummary]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelSummary, _Mapping]]] = ...) -> None: ...

class ChallengeReleaseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChallengeReleaseResponse(_message.Message):
    __slots__ = ("nonce", "expires_at_ms")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    expires_at_ms: int
    def __init__(self, nonce: _Optional[bytes] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class ReleaseKeyRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "attestation_result", "nonce", "proof")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_RESULT_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: int
    attestation_result: str
    nonce: bytes
    proof: bytes
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[int] = ..., attestation_result: _Optional[str] = ..., nonce: _Optional[bytes] = ..., proof: _Optional[bytes] = ...) -> None: ...

class ReleaseKeyResponse(_message.Message):
    __slots__ = ("manifest", "lease_id", "sealed_grant")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SEALED_GRANT_FIELD_NUMBER: _ClassVar[int]
    manifest: _model_pb2.SignedManifest
    lease_id: str
    sealed_grant: bytes
    def __init__(self, manifest: _Optional[_Union[_model_pb2.SignedManifest, _Mapping]] = ..., lease_id: _Optional[str] = ..., sealed_grant: _Optional[bytes] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("model_key", "model_name", "model_version", "model_digest", "allow_plain", "lease_s", "policy_digest", "epochs", "signer_sets")
    MODEL_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PLAIN_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    SIGNER_SETS_FIELD_NUMBER: _ClassVar[int]
    model_key: bytes
    model_name: str
    model_version: int
    model_digest: bytes
    allow_plain: bool
    lease_s: int
    policy_digest: bytes
    epochs: _containers.RepeatedCompositeFieldContainer[EpochKey]
    signer_sets: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, model_key: _Optional[bytes] = ..., model_name: _Optional[str] = ..., model_version: _Optional[int] = ..., model_digest: _Optional[bytes] = ..., allow_plain: bool = ..., lease_s: _Optional[int] = ..., policy_digest: _Optional[bytes] = ..., epochs: _Optional[_Iterable[_Union[EpochKey, _Mapping]]] = ..., signer_sets: _Optional[_Iterable[bytes]] = ...) -> None: ...

class EpochKey(_message.Message):
    __slots__ = ("epoch", "hpke_suite", "seed", "seal_until_ms", "open_until_ms", "policy")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HPKE_SUITE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SEAL_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    OPEN_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    hpke_suite: str
    seed: bytes
    seal_until_ms: int
    open_until_ms: int
    policy: _model_pb2.SignedReleasePolicy
    def __init__(self, epoch: _Optional[int] = ..., hpke_suite: _Optional[str] = ..., seed: _Optional[bytes] = ..., seal_until_ms: _Optional[int] = ..., open_until_ms: _Optional[int] = ..., policy: _Optional[_Union[_model_pb2.SignedReleasePolicy, _Mapping]] = ...) -> None: ...

class WatchLeasesRequest(_message.Message):
    __slots__ = ("lease_ids",)
    LEASE_IDS_FIELD_NUMBER: _ClassVar[int]
    lease_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lease_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class LeaseEvent(_message.Message):
    __slots__ = ("sequence", "ended", "changed", "within_ms")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    WITHIN_MS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    ended: _containers.RepeatedScalarFieldContainer[str]
    changed: _containers.RepeatedScalarFieldContainer[str]
    within_ms: int
    def __init__(self, sequence: _Optional[int] = ..., ended: _Optional[_Iterable[str]] = ..., changed: _Optional[_Iterable[str]] = ..., within_ms: _Optional[int] = ...) -> None: ...

class Withdrawal(_message.Message):
    __slots__ = ("model_name", "model_version", "sequence", "withdrawn_at_ms", "by", "reason")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_AT_MS_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: int
    sequence: int
    withdrawn_at_ms: int
    by: str
    reason: str
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[int] = ..., sequence: _Optional[int] = ..., withdrawn_at_ms: _Optional[int] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class WithdrawRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "reason")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: int
    reason: str
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class WithdrawResponse(_message.Message):
    __slots__ = ("audit_sequence", "leases", "leases_until_ms")
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LEASES_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    audit_sequence: int
    leases: int
    leases_until_ms: int
    def __init__(self, audit_sequence: _Optional[int] = ..., leases: _Optional[int] = ..., leases_until_ms: _Optional[int] = ...) -> None: ...

class LiftWithdrawalRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "reason", "order")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: int
    reason: str
    order: bytes
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[int] = ..., reason: _Optional[str] = ..., order: _Optional[bytes] = ...) -> None: ...

class LiftWithdrawalResponse(_message.Message):
    __slots__ = ("audit_sequence",)
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    audit_sequence: int
    def __init__(self, audit_sequence: _Optional[int] = ...) -> None: ...

class ListWithdrawalsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListWithdrawalsResponse(_message.Message):
    __slots__ = ("withdrawals",)
    WITHDRAWALS_FIELD_NUMBER: _ClassVar[int]
    withdrawals: _containers.RepeatedCompositeFieldContainer[Withdrawal]
    def __init__(self, withdrawals: _Optional[_Iterable[_Union[Withdrawal, _Mapping]]] = ...) -> None: ...

class ListAuditRequest(_message.Message):
    __slots__ = ("model_name", "after_sequence", "newest")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    after_sequence: int
    newest: int
    def __init__(self, model_name: _Optional[str] = ..., after_sequence: _Optional[int] = ..., newest: _Optional[int] = ...) -> None: ...

class RotateRootRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RotateRootResponse(_message.Message):
    __slots__ = ("to", "secrets", "audit_sequence")
    TO_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    to: str
    secrets: int
    audit_sequence: int
    def __init__(self, to: _Optional[str] = ..., secrets: _Optional[int] = ..., audit_sequence: _Optional[int] = ...) -> None: ...

class GetVaultStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetVaultStatusResponse(_message.Message):
    __slots__ = ("root_keys",)
    ROOT_KEYS_FIELD_NUMBER: _ClassVar[int]
    root_keys: _containers.RepeatedCompositeFieldContainer[RootKey]
    def __init__(self, root_keys: _Optional[_Iterable[_Union[RootKey, _Mapping]]] = ...) -> None: ...

class RootKey(_message.Message):
    __slots__ = ("key_id", "back_end", "wraps", "secrets")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    BACK_END_FIELD_NUMBER: _ClassVar[int]
    WRAPS_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    back_end: str
    wraps: bool
    secrets: int
    def __init__(self, key_id: _Optional[str] = ..., back_end: _Optional[str] = ..., wraps: bool = ..., secrets: _Optional[int] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("have_size", "should_size", "reason")
    HAVE_SIZE_FIELD_NUMBER: _ClassVar[int]
    SHOULD_SIZE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    have_size: int
    should_size: int
    reason: str
    def __init__(self, have_size: _Optional[int] = ..., should_size: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ("audit_sequence", "generation")
    AUDIT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    audit_sequence: int
    generation: int
    def __init__(self, audit_sequence: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class GetCheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCheckpointResponse(_message.Message):
    __slots__ = ("checkpoint", "log_key")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    LOG_KEY_FIELD_NUMBER: _ClassVar[int]
    checkpoint: str
    log_key: str
    def __init__(self, checkpoint: _Optional[str] = ..., log_key: _Optional[str] = ...) -> None: ...

class ProveInclusionRequest(_message.Message):
    __slots__ = ("sequence", "size")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    size: int
    def __init__(self, sequence: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class ProveInclusionResponse(_message.Message):
    __slots__ = ("proof",)
    PROOF_FIELD_NUMBER: _ClassVar[int]
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProveConsistencyRequest(_message.Message):
    __slots__ = ("old_size", "new_size")
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    NEW_SIZE_FIELD_NUMBER: _ClassVar[int]
    old_size: int
    new_size: int
    def __init__(self, old_size: _Optional[int] = ..., new_size: _Optional[int] = ...) -> None: ...

class ProveConsistencyResponse(_message.Message):
    __slots__ = ("proof",)
    PROOF_FIELD_NUMBER: _ClassVar[int]
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, proof: _Optional[_Iterable[bytes]] = ...) -> None: ...
