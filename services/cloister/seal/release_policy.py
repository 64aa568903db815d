"""A model's release policy: who may have its key, as its owner signed it.

Nothing in it means "any": an empty list, a wildcard, an unknown field or status is refused when the policy is set, so
none of them can turn into a rule that matches more than was meant. Pure.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from cloister.api.v1 import provisioner_pb2
from cloister.errors import InvalidRequest
from cloister.seal.names import check_model

MAX_POLICY_BYTES = 64 * 1024
MAX_SIGNATURE_BYTES = 128 * 1024
"""Of a policy: 64, or an envelope of its bytes."""
MAX_SIGNER_SETS_BYTES = 64 * 1024
"""Of all signer sets of a model."""
MIN_LEASE_S = 60
MAX_LEASE_S = 86_400
# Revoked is not here: no policy can allow it.
TCB_STATUSES = frozenset(
    {
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
    }
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_ENTRIES = 256
_MAX_INTEGER = 2**63 - 1
_MAX_RELEASES_PER_HOUR = 1_000_000


@dataclass(frozen=True, slots=True)
class SignerRule:
    """Every enclave of one signer and product from a security version on."""

    mrsigner: str
    isvprodid: int
    min_isvsvn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePolicy:
    """A release policy that was read and found whole.

    Attributes:
        cluster: The mesh it is meant for.
        version: Of this policy; only goes up.
        mrenclave: Measurements, 64 lower-case hex digits each.
        td_measurement: The same of trust domains, `td_measurement.TdMeasurement.digest` of each.
        platforms: SHA-256 of the PPIDs of machines that may have the key, 64 lower-case hex digits each; None where the
            policy does not restrict them.
        lease_s: How long a released key may be used before it must be asked for again.
        releases_per_hour: Of all versions together, renewals included; 0 for no bound.
        signer_set: Number of the signer set that signs it (`kit.signer_set`); 0 for the owner's key alone.
        log_generation: Of the provisioner's log, where it was resumed and the owner signs for that; else 0.
        digest: SHA-256 of the bytes that the owner signed.
    """

    cluster: str
    model_name: str
    version: int
    mrenclave: frozenset[str]
    td_measurement: frozenset[str]
    signers: tuple[SignerRule, ...]
    tcb_statuses: frozenset[str]
    allow_simulated: bool
    allow_plain: bool
    lease_s: int
    min_model_version: int
    platforms: frozenset[str] | None
    releases_per_hour: int
    signer_set: int
    log_generation: int
    digest: bytes


def parse_policy(raw: bytes) -> ReleasePolicy:
    """Read the exact bytes that an owner signed.

    Raises:
        InvalidRequest: They do not parse, or hold a field that is empty, unknown or out of range (`policy.invalid`).
    """
    if len(raw) > MAX_POLICY_BYTES:
        raise _invalid(f"the policy is larger than {MAX_POLICY_BYTES} bytes")
    try:
        message = provisioner_pb2.ReleasePolicy.FromString(raw)
    except DecodeError as error:
        raise _invalid("the policy does not parse") from error
    if any(len(UnknownFieldSet(part)) for part in (message, message.platforms, *message.signers)):
        raise _invalid("the policy has a field that this version does not know")
    check_model(message.model_name, 1)
    _check_numbers(message)
    _check_lists(message)
    return ReleasePolicy(
        cluster=message.cluster,
        model_name=message.model_name,
        version=message.version,
        mrenclave=frozenset(message.mrenclave),
        td_measurement=frozenset(message.td_measurement),
        signers=tuple(SignerRule(rule.mrsigner, rule.isvprodid, rule.min_isvsvn) for rule in message.signers),
        tcb_statuses=frozenset(message.tcb_statuses),
        allow_simulated=message.allow_simulated,
        allow_plain=message.allow_plain,
        lease_s=message.lease_s,
        min_model_version=message.min_model_version,
        log_generation=message.log_generation,
        platforms=frozenset(message.platforms.ppid_sha256) if message.HasField("platforms") else None,
        releases_per_hour=message.releases_per_hour,
        signer_set=message.signer_set,
        digest=hashlib.sha256(raw).digest(),
    )


def check_meant_for(policy: ReleasePolicy, cluster: str) -> None:
    """Check that an owner who signs for several meshes meant this policy for this one.

    Raises:
        InvalidRequest: It names another mesh or none (`policy.other_cluster`).
    """
    if policy.cluster != cluster:
        raise InvalidRequest("the policy is meant for another mesh, or names none", reason="policy.other_cluster")


def _check_numbers(message: provisioner_pb2.ReleasePolicy) -> None:
    if not 1 <= message.version <= _MAX_INTEGER:
        raise _invalid("version must be 1 or more")
    if not MIN_LEASE_S <= message.lease_s <= MAX_LEASE_S:
        raise _invalid(f"lease_s must be {MIN_LEASE_S} to {MAX_LEASE_S}")
    if message.min_model_version > _MAX_INTEGER:
        raise _invalid("min_model_version is out of range")
    if message.releases_per_hour > _MAX_RELEASES_PER_HOUR:
        raise _invalid(f"releases_per_hour is more than {_MAX_RELEASES_PER_HOUR}; leave it out for no bound")
    if message.signer_set > _MAX_INTEGER:
        raise _invalid("signer_set is out of range")


def _check_lists(message: provisioner_pb2.ReleasePolicy) -> None:
    if not message.mrenclave and not message.td_measurement and not message.signers:
        raise _invalid("the policy names neither a measurement nor a signer")
    if not message.tcb_statuses:
        raise _invalid("the policy names no TCB status")
    if message.HasField("platforms") and not message.platforms.ppid_sha256:
        raise _invalid("platforms names none: leave it out to admit every platform that the verifier admits")
    platforms = message.platforms.ppid_sha256
    lists = (message.mrenclave, message.td_measurement, message.signers, message.tcb_statuses, platforms)
    if max(map(len, lists)) > _MAX_ENTRIES:
        raise _invalid(f"the policy has a list of more than {_MAX_ENTRIES} entries")
    signers = (rule.mrsigner for rule in message.signers)
    for digest in (*message.mrenclave, *message.td_measurement, *signers, *platforms):
        if not _DIGEST.fullmatch(digest) or not int(digest, 16):
            raise _invalid(
                "mrenclave, mrsigner, td_measurement and ppid_sha256 are 64 lower-case hex digits, not all zero"
            )
    for rule in message.signers:
        if rule.isvprodid > 0xFFFF or rule.min_isvsvn > 0xFFFF:
            raise _invalid("isvprodid and min_isvsvn must be at most 65535")
    unknown = set(message.tcb_statuses) - TCB_STATUSES
    if unknown:
        raise _invalid("tcb_statuses has one that no policy may allow: " + min(unknown)[:64])


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason="policy.invalid")
