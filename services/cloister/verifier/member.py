"""An attested worker, what happens to it, and how that is kept where it outlives a process.

What is kept of an instance is one record with a rank: of two records the higher rank counts, wherever and in whichever
order they are heard of, and at one version a removal outranks a membership. So a list that is put together from an old
copy and newer news comes out the same as the news alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import cbor2

from cloister.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Keys:
    """The public keys that one start of a worker speaks with.

    The HPKE key is another from time to time: with it ends what was sealed to it. The others stay, and name the worker.
    """

    tls_spki_sha256: bytes
    receipt_key: bytes
    hpke_suite: str
    hpke_public: bytes

    @property
    def lasting(self) -> bytes:
        """What is the same for as long as the worker runs; an instance name is pinned to it."""
        return cbor2.dumps([self.tls_spki_sha256, self.receipt_key, self.hpke_suite])


@dataclass(frozen=True, slots=True)
class Member:
    """An attested worker, with what a third party needs in order to judge it.

    Attributes:
        endpoint: host:port to reach it at, as it says; a hint for routing, believed by nobody.
        collateral: JSON, exactly as the verifier used it.
        expires_at: End of its Attestation Result.
    """

    instance: str
    spiffe_id: str
    server_name: str
    endpoint: str
    keys: Keys
    claims: bytes
    quote: bytes
    collateral: bytes
    attestation_result: str
    expires_at: datetime
    simulated: bool


class Change(Enum):
    """What happened to a member; CURRENT says that the snapshot is complete."""

    JOINED = "joined"
    RENEWED = "renewed"
    GONE = "gone"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of what a watcher hears. `reason` is set for GONE: left, expired or revoked."""

    change: Change
    member: Member | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """The state of one instance: a member, or one that was taken out before its result ended.

    Attributes:
        version: Goes up by one with every change.
        removed: Why it was taken out; empty for a member.
    """

    member: Member
    version: int
    removed: str = ""

    @property
    def rank(self) -> int:
        """Of two records of an instance, the one of the higher rank counts."""
        return 2 * self.version + bool(self.removed)

    @property
    def collateral_sha256(self) -> bytes:
        """What the collateral is kept under: thousands of members share one."""
        return hashlib.sha256(self.member.collateral).digest()

    def encoded(self) -> bytes:
        """All of it but the collateral, of which it has the hash."""
        member, keys = self.member, self.member.keys
        return cbor2.dumps(
            [
                *(self.version, self.removed),
                *(member.instance, member.spiffe_id, member.server_name, member.endpoint),
                [keys.tls_spki_sha256, keys.receipt_key, keys.hpke_suite, keys.hpke_public],
                *(member.claims, member.quote, self.collateral_sha256, member.attestation_result),
                *(int(member.expires_at.timestamp() * 1000), member.simulated),
            ]
        )

    @classmethod
    def decoded(cls, raw: bytes) -> tuple[MemberRecord, bytes]:
        """A record without its collateral, and the SHA-256 of that; raises InvalidRequest (`record.malformed`)."""
        try:
            fields: list[Any] = cbor2.loads(raw)
            version, removed, instance, spiffe_id, server_name, endpoint, keys = fields[:7]
            claims, quote, collateral_sha256, attestation_result, expires_at_ms, simulated = fields[7:]
            member = Member(
                instance=instance,
                spiffe_id=spiffe_id,
                server_name=server_name,
                endpoint=endpoint,
                keys=Keys(*keys),
                claims=claims,
                quote=quote,
                collateral=b"",
                attestation_result=attestation_result,
                expires_at=datetime.fromtimestamp(expires_at_ms / 1000, UTC),
                simulated=simulated,
            )
        except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError, OSError) as error:
            raise InvalidRequest("this is no record of a member", reason="record.malformed") from error
        return cls(member, version, removed), collateral_sha256

    def completed(self, collateral: bytes, sha256: bytes) -> MemberRecord:
        """The record with its collateral; raises InvalidRequest if that is another."""
        if hashlib.sha256(collateral).digest() != sha256:
            raise InvalidRequest("this is not the collateral of the member", reason="record.malformed")
        return replace(self, member=replace(self.member, collateral=collateral))
