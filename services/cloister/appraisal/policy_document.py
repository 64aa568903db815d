"""An appraisal policy as people hand it around: the TOML itself, or an envelope around it that they have signed.

Signatures are over the exact bytes of the TOML and the purpose (`dsse.py`). A document that was read is believed by
nobody yet: who may decide about the policy is the reader's to say (`check_signed`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from cloister import dsse
from cloister.appraisal.policy import Policy
from cloister.errors import InvalidRequest

MAX_DOCUMENT_BYTES: Final = 720 * 1024  # the longest policy in base64, with as many signatures as there may be
PAYLOAD_TYPE: Final = "application/vnd.cloister.appraisal-policy.v1+toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """A policy and the bytes that say so.

    Attributes:
        raw: As it came: TOML, or an envelope (JSON).
        toml: The policy's own text.
        signers: Ed25519 public keys, in hex, whose signatures over it hold, trusted or not.
    """

    raw: bytes = field(repr=False)
    toml: bytes = field(repr=False)
    policy: Policy
    signers: frozenset[str] = frozenset()

    @classmethod
    def read(cls, raw: bytes) -> PolicyDocument:
        """Read either form; no TOML begins with a brace, and every envelope does.

        Raises:
            InvalidRequest: Reason `policy.malformed` or `signature.malformed`.
        """
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise InvalidRequest("the policy is longer than 720 KiB with its signatures", reason="policy.malformed")
        if not _is_envelope(raw):
            return cls(raw=raw, toml=raw, policy=Policy.from_toml(raw))
        toml = dsse.payload(raw, PAYLOAD_TYPE)
        return cls(raw=raw, toml=toml, policy=Policy.from_toml(toml), signers=dsse.signers(raw, PAYLOAD_TYPE))

    @property
    def enveloped(self) -> bool:
        """Whether it is an envelope."""
        return self.raw is not self.toml

    def check_versioned(self) -> None:
        """Check that it has a version; raises InvalidRequest (`policy.unversioned`)."""
        if self.policy.version < 1:
            raise InvalidRequest(
                "the policy has no version, so nothing tells it from an older one: begin with 'version = 1'",
                reason="policy.unversioned",
            )


def check_signed(raw: bytes, trusted: Collection[str], threshold: int) -> None:
    """Check who has signed, and look no further: to read TOML can cost far more than to write it.

    Raises:
        InvalidRequest: `policy.unsigned` for bare TOML, `signature.malformed`, or `signature.insufficient` where too
            few of the trusted have signed.
    """
    if not _is_envelope(raw):
        raise InvalidRequest(
            "the policy is not signed, and policy_signers says who must: 'cloister policy sign'",
            reason="policy.unsigned",
        )
    dsse.verified(raw, PAYLOAD_TYPE, trusted, threshold=threshold)


def _is_envelope(raw: bytes) -> bool:
    return raw.lstrip().startswith(b"{")
