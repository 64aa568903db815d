"""How a trust bundle came to be: what a client did to believe the verifier that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

_32_BYTES: Final = re.compile(r"[0-9a-f]{64}")


class PinnedBy(StrEnum):
    """What the pin rests on."""

    ATTESTED = "attested"
    FINGERPRINT = "fingerprint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """The pin of one verifier.

    Attributes:
        by: Its own evidence, appraised by this client; or the fingerprint of the mesh's root CA, which somebody named.
        at: When; aware UTC, to the second.
        verifier_mrenclave: Measurement of the verifier, 64 hex digits; None where no evidence was appraised.
        policy_id: Of the appraisal policy that it had in force then, as are `policy_version` and `policy_digest` (hex).
    """

    by: PinnedBy
    at: datetime
    verifier_mrenclave: str | None
    policy_id: str
    policy_version: int
    policy_digest: str

    def __post_init__(self) -> None:
        """Raises ValueError for what no pin says."""
        if (self.by is PinnedBy.ATTESTED) is not (self.verifier_mrenclave is not None):
            raise ValueError("'pinned' has a measurement exactly if it is by evidence")
        for digest in (self.policy_digest, self.verifier_mrenclave or self.policy_digest):
            if not _32_BYTES.fullmatch(digest):
                raise ValueError("a measurement or digest in 'pinned' is not 64 lower-case hex digits")
        if self.at.tzinfo is None or type(self.policy_version) is not int or self.policy_version < 0:
            raise ValueError("'pinned' has a time without a zone, or a version that is no whole number")

    @property
    def is_weak(self) -> bool:
        """Whether it rests on no evidence."""
        return self.by is not PinnedBy.ATTESTED

    def to_plain(self) -> dict[str, object]:
        """As in the bundle's file."""
        content: dict[str, object] = {
            "by": self.by.value,
            "at": self.at.astimezone(UTC).isoformat(timespec="seconds"),
            "policy": {"id": self.policy_id, "version": self.policy_version, "digest": self.policy_digest},
        }
        if self.verifier_mrenclave is not None:
            content["verifier_mrenclave"] = self.verifier_mrenclave
        return content

    @classmethod
    def from_plain(cls, value: object) -> Pinned:
        """Read what `to_plain` gave; raises ValueError for anything else."""
        match value:
            case {"by": str(by), "at": str(at), "policy": dict(policy), "verifier_mrenclave": str(code), **more} if (
                not more
            ):
                return _pinned(by, at, policy, code)
            case {"by": str(by), "at": str(at), "policy": dict(policy), **more} if not more:
                return _pinned(by, at, policy, None)
        raise ValueError("'pinned' is not what it should be")


def _pinned(by: str, at: str, policy: Mapping[str, object], measurement: str | None) -> Pinned:
    match policy:
        case {"id": str(policy_id), "version": int(version), "digest": str(digest), **rest} if not rest:
            return Pinned(
                by=PinnedBy(by),
                at=datetime.fromisoformat(at),
                verifier_mrenclave=measurement,
                policy_id=policy_id,
                policy_version=version,
                policy_digest=digest,
            )
    raise ValueError("the policy in 'pinned' is not what it should be")
