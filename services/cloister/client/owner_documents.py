"""What several people sign for a model, as files that travel between them: release policies, signer sets, manifests.

A draft is JSON that a person can read and change: a release policy as protobuf writes it, a signer set, or the manifest
that `cloister model seal` left. Signed, it is an envelope (`cloister.dsse`) of the exact bytes that count. Reading is
pure; nothing here says whether those who signed may, which is the provisioner's to find (`kit.signer_set`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import json_format

from cloister import dsse
from cloister.api.v1.provisioner_pb2 import ReleasePolicy
from cloister.errors import InvalidRequest
from cloister.kit.signed_policy import MANIFEST_TYPE, POLICY_TYPE
from cloister.kit.signer_set import SIGNER_SET_TYPE, SignerSet, read_signer_set
from cloister.seal.release_policy import parse_policy

MAX_DOCUMENT_BYTES: Final = 512 * 1024
_ENVELOPE: Final = {"payload", "payloadType", "signatures"}
_SIGNER_SET: Final = {"cluster", "keys", "model", "threshold", "version"}


class DocumentKind(Enum):
    """What a document says; its value is the payload type that it is signed as."""

    POLICY = POLICY_TYPE
    SIGNER_SET = SIGNER_SET_TYPE
    MANIFEST = MANIFEST_TYPE


@dataclass(frozen=True, slots=True)
class OwnerDocument:
    """One document.

    Attributes:
        kind: What it says.
        content: The exact bytes that are, or will be, signed.
        envelope: With the signatures that it has; empty for a draft.
    """

    kind: DocumentKind
    content: bytes = field(repr=False)
    envelope: bytes = field(default=b"", repr=False)

    @property
    def signers(self) -> frozenset[str]:
        """Public keys, in hex, of those who have signed it, whoever they are."""
        return dsse.signers(self.envelope, self.kind.value) if self.envelope else frozenset()

    def signed(self, key: Ed25519PrivateKey) -> OwnerDocument:
        """The same with one more signature."""
        if self.envelope:
            return OwnerDocument(self.kind, self.content, dsse.countersigned(self.envelope, self.kind.value, key))
        return OwnerDocument(self.kind, self.content, dsse.sign(self.content, self.kind.value, [key]))

    def policy(self) -> ReleasePolicy:
        """The release policy in it; raises InvalidRequest (`policy.invalid`) where it is none that could be set."""
        parse_policy(self.content)
        return ReleasePolicy.FromString(self.content)

    def signer_set(self) -> SignerSet:
        """The signer set in it; raises InvalidRequest (`signer_set.invalid`)."""
        return read_signer_set(self.content)


def read_document(raw: bytes) -> OwnerDocument:
    """Read a draft or an envelope, and check that what is in it has its form.

    Raises:
        InvalidRequest: It is none (`document.malformed`), or what it holds is no policy or signer set.
    """
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise _malformed(f"it is longer than {MAX_DOCUMENT_BYTES} bytes")
    try:
        members: Any = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _malformed("it is not JSON") from error
    if not isinstance(members, dict):
        raise _malformed("it is no JSON object")
    document = _enveloped(raw, members) if members.keys() == _ENVELOPE else _draft(raw, members)
    if document.kind is DocumentKind.POLICY:
        document.policy()
    elif document.kind is DocumentKind.SIGNER_SET:
        document.signer_set()
    return document


def policy_draft(policy: ReleasePolicy) -> bytes:
    """A release policy as JSON for people."""
    return json_format.MessageToJson(policy, preserving_proto_field_name=True).encode() + b"\n"


def signer_set_draft(signers: SignerSet) -> bytes:
    """A signer set as JSON for people."""
    return json.dumps(json.loads(signers.document()), indent=2).encode() + b"\n"


def policy_bytes(policy: ReleasePolicy) -> bytes:
    """What is signed of a policy."""
    return policy.SerializeToString(deterministic=True)


def _enveloped(raw: bytes, members: dict[str, Any]) -> OwnerDocument:
    try:
        kind = DocumentKind(members["payloadType"])
    except ValueError as error:
        raise _malformed("it was signed as something that has nothing to do with a model") from error
    return OwnerDocument(kind, dsse.payload(raw, kind.value), raw)


def _draft(raw: bytes, members: dict[str, Any]) -> OwnerDocument:
    if members.keys() == _SIGNER_SET:
        content = json.dumps(dict(sorted(members.items())), separators=(",", ":")).encode()
        return OwnerDocument(DocumentKind.SIGNER_SET, content)
    if {"v", "digest", "files"} <= members.keys():
        return OwnerDocument(DocumentKind.MANIFEST, raw)
    try:
        policy = json_format.Parse(raw, ReleasePolicy())
    except json_format.ParseError as error:
        raise _malformed(f"it is no release policy, signer set or manifest: {error}") from error
    return OwnerDocument(DocumentKind.POLICY, policy_bytes(policy))


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"not a document about a model: {what}", reason="document.malformed")
