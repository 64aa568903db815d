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
        if not raw.lstrip().startswith(b"{"):
            return cls(raw=raw, toml=raw, policy=Policy.from_toml(raw))
        toml = dsse.payload(raw, PAYLOAD_TYPE)
        return cls(raw=raw, toml=toml, policy=Policy.from_toml(toml), signers=dsse.signers(raw, PAYLOAD_TYPE))

    @property
    def enveloped(self) -> bool:
        """Whether it is an envelope."""
        return self.raw is not self.toml

    def check_signed(self, trusted: Collection[str], threshold: int) -> None:
        """Check that enough of the people who may decide have signed exactly this policy.

        Raises:
            InvalidRequest: `policy.unsigned` for bare TOML, `policy.unversioned` without a version to tell it from an
                older one, `signature.insufficient` where too few of the trusted have signed.
        """
        if not self.enveloped:
            raise InvalidRequest(
                "the policy is not signed, and policy_signers says who must: 'cloister policy sign'",
                reason="policy.unsigned",
            )
        self.check_versioned()
        dsse.verified(self.raw, PAYLOAD_TYPE, trusted, threshold=threshold)

    def check_versioned(self) -> None:
        """Check that it has a version; raises InvalidRequest (`policy.unversioned`)."""
        if self.policy.version < 1:
            raise InvalidRequest(
                "the policy has no version, so nothing tells it from an older one: begin with 'version = 1'",
                reason="policy.unversioned",
            )
