"""What a verifier stands for, and the digest by which its own evidence vouches for exactly that.

A client that is to believe a mesh needs its root CA, the keys of its verifier, and to know under which policy and trust
anchor that verifier appraises. The digest over those four is the claim `cfg` of the verifier's evidence, so whoever
appraised that evidence can take this document from anybody, the operator of the verifier's host included.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.errors import InvalidRequest
from cloister.tlog.cosignature import WitnessKey

FORMAT: Final = "cloister mesh trust v1"
MAX_BYTES: Final = 256 * 1024

_MEMBERS: Final = frozenset(
    {"format", "cluster", "verifier", "root_ca_pem", "jwks", "thumbprints", "policy", "anchor_root_der"}
)
_SIGNED_MEMBERS: Final = frozenset({"keys_named_by", "key_set"})
_WITNESS: Final = frozenset({"witness"})
_SIGNERS_MEMBERS: Final = frozenset({"signers", "threshold"})
_POLICY_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")  # as in policies; it is shown to people
_POLICY_MEMBERS: Final = frozenset({"id", "version", "digest"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshTrust:
    """One mesh, as its verifier speaks for it.

    Attributes:
        cluster: Trust domain.
        verifier_id: SPIFFE id of the verifier, which issues Attestation Results.
        root_ca_pem: The mesh's root CA; more than one while it is being replaced.
        jwks: The verifier's keys, a JSON Web Key Set.
        thumbprints: RFC 7638 thumbprints of all of them.
        policy_id: Name of the appraisal policy in force, as are `policy_version` and `policy_digest`.
        policy_version: 0 where policies are not versioned.
        policy_digest: SHA-256, 32 bytes; what Attestation Results carry.
        anchor_root_der: The root certificate that evidence of workers must lead back to.
        key_signers: Who may say which keys are the verifier's: Ed25519 public keys in hex. None where its keys are
            pinned one by one.
        key_threshold: How many of them must.
        key_set: The keys as they vouch for them; its signatures, and no digest, make it believable.
        witness: What the verifier countersigns heads of the provisioner's record with, a C2SP vkey; empty for none.
    """

    cluster: str
    verifier_id: str
    root_ca_pem: str
    jwks: str
    thumbprints: frozenset[str]
    policy_id: str
    policy_version: int
    policy_digest: bytes
    anchor_root_der: bytes = field(repr=False)
    key_signers: frozenset[str] = frozenset()
    key_threshold: int = 1
    key_set: bytes = field(default=b"", repr=False)
    witness: str = ""

    def digest(self) -> bytes:
        """SHA-256 of a deterministic CBOR map (RFC 8949, section 4.2.1), 32 bytes.

        Its members: `v` is 1; `ca` the SHA-256 of each root certificate's DER, sorted; `jwks` the thumbprints, sorted;
        `policy` an array of the policy's name, version and digest; `anchor` the SHA-256 of the anchor's DER; and where
        there are key signers, `signers` an array of their threshold and their keys, sorted, and `key_set` the SHA-256
        of the signed key set in JSON with sorted members and no white space: an older one, signed by the same people,
        may name keys that were withdrawn since. Where there is a witness, `witness` is its vkey. Cluster and verifier
        are claims of their own.

        Raises:
            InvalidRequest: The root CA is no certificate.
        """
        said: dict[str, object] = {
            "v": 1,
            "ca": sorted(sha256(der).digest() for der in root_ders(self.root_ca_pem)),
            "jwks": sorted(self.thumbprints),
            "policy": [self.policy_id, self.policy_version, self.policy_digest],
            "anchor": sha256(self.anchor_root_der).digest(),
        }
        if self.key_signers:
            said["signers"] = [self.key_threshold, sorted(self.key_signers)]
            said["key_set"] = sha256(_compact(self.key_set)).digest()
        if self.witness:
            said["witness"] = self.witness
        return sha256(cbor2.dumps(said, canonical=True)).digest()

    def to_json(self) -> bytes:
        """The document, as it is served."""
        content: dict[str, object] = {
            "format": FORMAT,
            "cluster": self.cluster,
            "verifier": self.verifier_id,
            "root_ca_pem": self.root_ca_pem,
            "jwks": json.loads(self.jwks),
            "thumbprints": sorted(self.thumbprints),
            "policy": {"id": self.policy_id, "version": self.policy_version, "digest": self.policy_digest.hex()},
            "anchor_root_der": b64encode(self.anchor_root_der).decode(),
        }
        if self.key_signers:
            content["keys_named_by"] = {"signers": sorted(self.key_signers), "threshold": self.key_threshold}
            content["key_set"] = json.loads(self.key_set)
        if self.witness:
            content["witness"] = self.witness
        return json.dumps(content, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, raw: bytes) -> MeshTrust:
        """Read a document that a stranger served; nothing in it is believed yet.

        Raises:
            InvalidRequest: Anything but such a document.
        """
        if len(raw) > MAX_BYTES:
            raise InvalidRequest("the mesh's trust document is too long", reason="mesh_trust.malformed")
        try:
            members = json.loads(raw)
            there = members.keys() if isinstance(members, dict) else frozenset()
            wanted = _MEMBERS | (_SIGNED_MEMBERS if "keys_named_by" in there else frozenset()) | (_WITNESS & there)
            return _read(_object(members, wanted))
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"not a mesh's trust document: {error}", reason="mesh_trust.malformed") from error


def root_ders(pem: str) -> list[bytes]:
    """The certificates in PEM, as DER; raises InvalidRequest where there is none."""
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise InvalidRequest("the root CA is not a certificate in PEM", reason="mesh_trust.malformed") from error
    return [certificate.public_bytes(Encoding.DER) for certificate in certificates]


def _read(members: Mapping[str, object]) -> MeshTrust:
    policy = _object(members["policy"], _POLICY_MEMBERS)
    thumbprints = members["thumbprints"]
    if members["format"] != FORMAT:
        raise ValueError("another format")
    if not isinstance(thumbprints, list):
        raise ValueError("'thumbprints' is no list")
    if type(policy["version"]) is not int or policy["version"] < 0:
        raise ValueError("the policy's version is no whole number")
    if not _POLICY_ID.fullmatch(_text(policy["id"])):
        raise ValueError("the policy's name is none")
    digest = bytes.fromhex(_text(policy["digest"]))
    if len(digest) != 32:
        raise ValueError("the policy's digest is not 32 bytes")
    trust = MeshTrust(
        cluster=_text(members["cluster"]),
        verifier_id=_text(members["verifier"]),
        root_ca_pem=_text(members["root_ca_pem"]),
        jwks=json.dumps(members["jwks"]),
        thumbprints=frozenset(_text(each) for each in thumbprints),
        policy_id=_text(policy["id"]),
        policy_version=policy["version"],
        policy_digest=digest,
        anchor_root_der=b64decode(_text(members["anchor_root_der"]), validate=True),
        witness=WitnessKey.from_vkey(_text(members["witness"])).vkey if "witness" in members else "",
    )
    if "keys_named_by" in members:
        trust = _with_signers(trust, _object(members["keys_named_by"], _SIGNERS_MEMBERS), members["key_set"])
    root_ders(trust.root_ca_pem)
    return trust


def _with_signers(trust: MeshTrust, named_by: Mapping[str, object], key_set: object) -> MeshTrust:
    signers, threshold = named_by["signers"], named_by["threshold"]
    if not isinstance(signers, list) or not signers or type(threshold) is not int:
        raise ValueError("'keys_named_by' names nobody")
    return replace(
        trust,
        key_signers=frozenset(_text(each) for each in signers),
        key_threshold=threshold,
        key_set=json.dumps(key_set, indent=2).encode(),
    )


def _compact(document: bytes) -> bytes:
    return json.dumps(json.loads(document), sort_keys=True, separators=(",", ":")).encode()


def _object(value: object, names: frozenset[str]) -> Mapping[str, object]:
    if not isinstance(value, dict) or value.keys() != names:
        raise ValueError(f"a member is not an object with exactly {', '.join(sorted(names))}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a member is no string")
    return value
