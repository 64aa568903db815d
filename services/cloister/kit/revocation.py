"""What can be revoked, and whether it is what a worker is (attacks E11, J14). Pure.

A revocation names one thing and what kind of thing it is: a measurement (MRENCLAVE, or what stands for the measurements
of a trust domain), a signer (MRSIGNER; trust domains have none), a platform (by the SHA-256 of its PPID) or an
instance, which is one start of a worker. An Attestation Result says all of these of its worker, so whoever holds the
Result can tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final, NamedTuple

from cloister import ear
from cloister.api.v1 import verifier_pb2 as pb
from cloister.ear import AttestationResult
from cloister.errors import EvidenceRejected, InvalidRequest

ORDER_TYPE: Final = "application/vnd.cloister.lift-order+json"
_HEX: Final = re.compile(r"[0-9a-f]+")


class Kind(Enum):
    """What kind of thing is revoked."""

    MEASUREMENT = "measurement"
    SIGNER = "signer"
    PLATFORM = "platform"
    INSTANCE = "instance"

    @property
    def digits(self) -> int:
        """How many hex digits a value of this kind has."""
        return 32 if self is Kind.INSTANCE else 64

    @property
    def refusal(self) -> str:
        """The stable reason that a refusal gives."""
        return f"{self.value}.revoked"


KIND_NUMBERS: Final[Mapping[Kind, pb.RevocationKind]] = {
    Kind.MEASUREMENT: pb.REVOCATION_KIND_MEASUREMENT,
    Kind.SIGNER: pb.REVOCATION_KIND_SIGNER,
    Kind.PLATFORM: pb.REVOCATION_KIND_PLATFORM,
    Kind.INSTANCE: pb.REVOCATION_KIND_INSTANCE,
}


def kind_of(number: int) -> Kind:
    """The kind with this number on the wire; raises InvalidRequest (`revocation.invalid`)."""
    for kind, known in KIND_NUMBERS.items():
        if known == number:
            return kind
    raise InvalidRequest("a revocation has a kind, and one that is known here", reason="revocation.invalid")


class Name(NamedTuple):
    """One thing that can be revoked; `value` is in lower-case hex digits."""

    kind: Kind
    value: str

    @classmethod
    def read(cls, kind: Kind, value: str) -> Name:
        """Read a name that somebody typed or sent; raises InvalidRequest (`revocation.invalid`)."""
        if len(value) != kind.digits or not _HEX.fullmatch(value):
            raise InvalidRequest(
                f"a {kind.value} is named by {kind.digits} lower-case hex digits", reason="revocation.invalid"
            )
        return cls(kind, value)


Names = tuple[Name, ...]


def names_of(result: AttestationResult) -> Names:
    """Everything that a worker can be revoked by, the broadest first."""
    return (
        Name(Kind.MEASUREMENT, result.measurement),
        *((Name(Kind.SIGNER, result.mrsigner),) if result.td is None else ()),
        Name(Kind.PLATFORM, result.ppid_sha256),
        Name(Kind.INSTANCE, result.instance),
    )


def names_told(instance: str, attestation_result: str) -> Names:
    """The same of a worker that we are told of with a token that we do not check.

    It serves to distrust and never to trust: one whose token cannot be read is known by its instance alone, and nobody
    who judges evidence believes it.
    """
    try:
        return (*names_of(ear.unverified(attestation_result))[:-1], Name(Kind.INSTANCE, instance))
    except EvidenceRejected:
        return (Name(Kind.INSTANCE, instance),)


def is_revoked(instance: str, attestation_result: str, revocations: Collection[Name]) -> bool:
    """Whether a worker that we are told of is revoked; its token is read only where that can make a difference."""
    if not revocations:
        return False
    if Name(Kind.INSTANCE, instance) in revocations:
        return True
    if all(name.kind is Kind.INSTANCE for name in revocations):
        return False
    return revoked(names_told(instance, attestation_result), revocations) is not None


def revoked(names: Names, revocations: Collection[Name]) -> Name | None:
    """The first of `names` that is revoked, if any."""
    return next((name for name in names if name in revocations), None)


def lift_order(cluster: str, name: Name, revoked_at_ms: int) -> bytes:
    """What people sign to have a revocation lifted: this one, and not the next of the same thing.

    Args:
        cluster: Trust domain.
        name: What is revoked.
        revoked_at_ms: When it was revoked, Unix time in milliseconds, as `ListRevocations` tells.
    """
    said = {"cluster": cluster, "kind": name.kind.value, "value": name.value, "revoked_at_ms": revoked_at_ms}
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
