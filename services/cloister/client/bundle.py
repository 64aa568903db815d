"""The trust bundle: the one file that a client must get from somebody it trusts. It holds no secret.

Whoever can change it decides whom the client believes: take it from the person who founded the mesh, not from the
machine that serves it. Reading is strict: an unknown member, an empty list of measurements or an anchor that calls
itself genuine without being Intel's is refused, never passed over.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.policy import Policy
from cloister.client.floors import Floors
from cloister.client.pinned import Pinned
from cloister.ear import KeySet
from cloister.errors import InvalidRequest, NotFound
from cloister.kit.key_set import KeySigners, SignedKeySet
from cloister.rpc.certificates import load_certificates
from cloister.rpc.spiffe import SpiffeId
from cloister.tlog.cosignature import WitnessKey

FORMAT: Final = "cloister trust bundle v1"
MAX_BYTES: Final = 256 * 1024

_REQUIRED: Final = frozenset({"format", "cluster", "root_ca_pem", "verifier", "anchor"})
_OPTIONAL: Final = frozenset(
    {"mrenclave", "td_measurement", "owners", "policy", "pinned", "verifier_policies", "floors"}
)
_SIGNED_OF_VERIFIER: Final = frozenset({"key_signers", "key_threshold", "key_set"})
_OPTIONAL_OF_VERIFIER: Final = _SIGNED_OF_VERIFIER | {"witness"}
_32_BYTES: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBundle:
    """Whom a client believes.

    Attributes:
        cluster: Trust domain of the mesh.
        root_ca_pem: The mesh's root CA, for TLS.
        verifier_id: SPIFFE id that Attestation Results must come from.
        verifier_jwks: Its public keys, a JSON Web Key Set.
        thumbprints: RFC 7638 thumbprints of the keys that count; all others in the set do not.
        signers: Who may say which keys are the verifier's. Where they are named, only sets that they have signed count,
            and neither the plain set nor the thumbprints.
        key_set: A set that they have signed, to begin with.
        witness: What the verifier countersigns the provisioner's record with, a C2SP vkey; empty leaves it to the first
            audit.
        anchor: Where quotes must chain to.
        mrenclave: Measurements of workers that may serve; None leaves that to the reference values of the policy, and
            where that has none either, nobody is believed.
        td_measurement: The same for workers in TDX trust domains, by what stands for all of their measurements.
        owners: Ed25519 public keys, in hex, of those whose models may answer; None accepts every owner of the mesh.
        policy_toml: The client's own appraisal policy; None takes the default.
        verifier_policies: Digests, in hex, of the verifier's policies under which Attestation Results count; None
            leaves the policy to the verifier, within what the client's own appraisal accepts.
        pinned: How the verifier came to be believed; None where somebody who is trusted handed the bundle over.
        floors: What a worker must offer at least.
    """

    cluster: str
    root_ca_pem: str
    verifier_id: str
    verifier_jwks: str
    thumbprints: frozenset[str]
    anchor: TrustAnchor = INTEL_SGX
    mrenclave: frozenset[str] | None = None
    td_measurement: frozenset[str] | None = None
    owners: frozenset[str] | None = None
    signers: KeySigners | None = None
    key_set: bytes = field(default=b"", repr=False)
    witness: str = ""
    policy_toml: str | None = None
    verifier_policies: frozenset[str] | None = None
    pinned: Pinned | None = None
    floors: Floors = field(default_factory=Floors)
    _policy: Policy = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        verifier = SpiffeId.parse(self.verifier_id)
        if (verifier.cluster, verifier.role) != (self.cluster, "verifier"):
            raise InvalidRequest("the trust bundle names a verifier that is not one of its cluster")
        for name in ("mrenclave", "td_measurement", "owners", "verifier_policies"):
            pins: frozenset[str] | None = getattr(self, name)
            if pins is not None and not (pins and all(_32_BYTES.fullmatch(each) for each in pins)):
                raise InvalidRequest(
                    f"'{name}' in the trust bundle is not a list of one or more, each 64 lower-case hex digits"
                )
        load_certificates(self.root_ca_pem.encode())
        self.keys()
        self.witness_key  # noqa: B018 - raises for what is none
        policy = Policy.default() if self.policy_toml is None else Policy.from_toml(self.policy_toml.encode())
        object.__setattr__(self, "_policy", policy)

    def keys(self) -> KeySet:
        """The verifier's keys that count."""
        if self.signers is not None:
            return SignedKeySet.read(self.key_set, self.signers, issuer=self.verifier_id).keys
        return KeySet.from_jwks(self.verifier_jwks, self.thumbprints)

    def learned(self, key_set: bytes) -> TrustBundle:
        """This bundle with a newer set of the verifier's keys, if it is one; else this bundle.

        Raises:
            InvalidRequest: Enough of the signers have not signed it, or this bundle names none.
        """
        if not key_set or key_set == self.key_set:
            return self
        if self.signers is None:
            raise InvalidRequest("the trust bundle pins the verifier's keys one by one, and learns no others")
        found = SignedKeySet.read(key_set, self.signers, issuer=self.verifier_id)
        known = SignedKeySet.read(self.key_set, self.signers, issuer=self.verifier_id)
        return replace(self, key_set=key_set) if found.version > known.version else self

    def policy(self) -> Policy:
        """What the client itself asks of a quote."""
        return self._policy

    @property
    def witness_key(self) -> WitnessKey | None:
        """What the verifier countersigns the provisioner's record with, if anybody vouches for it here."""
        return WitnessKey.from_vkey(self.witness) if self.witness else None

    @property
    def pins_code(self) -> bool:
        """Whether it says which code to believe; one that does not believes nobody."""
        return self.pins_enclaves or self.pins_trust_domains

    @property
    def pins_enclaves(self) -> bool:
        """Whether it says which SGX enclaves to believe; one that does not believes none."""
        return self.mrenclave is not None or bool(self._policy.reference_values)

    @property
    def pins_trust_domains(self) -> bool:
        """Whether it says which TDX trust domains to believe; one that does not believes none."""
        return self.td_measurement is not None or bool(self._policy.td_reference_values)

    @classmethod
    def read(cls, path: Path) -> TrustBundle:
        """Read a trust bundle's file.

        Raises:
            NotFound: There is no such file.
            InvalidRequest: It is not a trust bundle; the message names the file.
        """
        try:
            with path.open("rb") as file:
                return cls.from_json(file.read(MAX_BYTES + 1))
        except FileNotFoundError as error:
            raise NotFound(f"there is no trust bundle at {path}; get one from whoever founded the mesh") from error
        except InvalidRequest as error:
            raise InvalidRequest(f"{path}: {error}", reason=error.reason) from error

    @classmethod
    def from_json(cls, raw: bytes) -> TrustBundle:
        """Read a trust bundle; raises InvalidRequest for anything else."""
        if len(raw) > MAX_BYTES:
            raise InvalidRequest("the trust bundle is too long")
        try:
            found = _members(json.loads(raw), _REQUIRED, _OPTIONAL)
            verifier = _members(found["verifier"], frozenset({"id", "jwks", "thumbprints"}), _OPTIONAL_OF_VERIFIER)
            if found["format"] != FORMAT:
                raise ValueError("another format")
            return cls(
                cluster=_text(found["cluster"]),
                root_ca_pem=_text(found["root_ca_pem"]),
                verifier_id=_text(verifier["id"]),
                verifier_jwks=json.dumps(verifier["jwks"]),
                thumbprints=_texts(verifier["thumbprints"]),
                anchor=_anchor(found["anchor"]),
                mrenclave=_texts(found["mrenclave"]) if "mrenclave" in found else None,
                td_measurement=_texts(found["td_measurement"]) if "td_measurement" in found else None,
                owners=_texts(found["owners"]) if "owners" in found else None,
                signers=_signers(verifier),
                key_set=json.dumps(verifier["key_set"], indent=2).encode() if "key_set" in verifier else b"",
                witness=_text(verifier["witness"]) if "witness" in verifier else "",
                policy_toml=_text(found["policy"]) if "policy" in found else None,
                verifier_policies=_texts(found["verifier_policies"]) if "verifier_policies" in found else None,
                pinned=Pinned.from_plain(found["pinned"]) if "pinned" in found else None,
                floors=Floors.from_plain(found["floors"]) if "floors" in found else Floors(),
            )
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"not a trust bundle: {error}") from error

    def to_json(self) -> bytes:
        """Return the file's content."""
        verifier: dict[str, object] = {
            "id": self.verifier_id,
            "jwks": json.loads(self.verifier_jwks),
            "thumbprints": sorted(self.thumbprints),
        }
        if self.signers is not None:
            verifier["key_signers"] = sorted(self.signers.keys)
            verifier["key_threshold"] = self.signers.threshold
            verifier["key_set"] = json.loads(self.key_set)
        if self.witness:
            verifier["witness"] = self.witness
        anchor: dict[str, object] = {"name": self.anchor.name, "simulated": self.anchor.simulated}
        if self.anchor.simulated:
            anchor["root_der"] = b64encode(self.anchor.root_der).decode()
        content: dict[str, object] = {
            "format": FORMAT,
            "cluster": self.cluster,
            "anchor": anchor,
            "verifier": verifier,
            "root_ca_pem": self.root_ca_pem,
        }
        if self.mrenclave is not None:
            content["mrenclave"] = sorted(self.mrenclave)
        if self.td_measurement is not None:
            content["td_measurement"] = sorted(self.td_measurement)
        if self.owners is not None:
            content["owners"] = sorted(self.owners)
        if self.policy_toml is not None:
            content["policy"] = self.policy_toml
        if self.verifier_policies is not None:
            content["verifier_policies"] = sorted(self.verifier_policies)
        if self.pinned is not None:
            content["pinned"] = self.pinned.to_plain()
        if self.floors != Floors():
            content["floors"] = self.floors.to_plain()
        return json.dumps(content, indent=2).encode() + b"\n"


def anchor_of(root_der: bytes | None) -> TrustAnchor:
    """The trust anchor with this root certificate: Intel's when none is given, a simulated one for any but Intel's."""
    if root_der is None or root_der == INTEL_SGX.root_der:
        return INTEL_SGX
    return TrustAnchor("simulated", root_der)


def _signers(verifier: Mapping[str, object]) -> KeySigners | None:
    if not verifier.keys() & _SIGNED_OF_VERIFIER:
        return None
    for name in _SIGNED_OF_VERIFIER - verifier.keys():
        raise ValueError(f"its verifier lacks '{name}'")
    threshold = verifier["key_threshold"]
    if type(threshold) is not int:
        raise ValueError("'key_threshold' is no number")
    return KeySigners(_texts(verifier["key_signers"]), threshold)


def _anchor(member: object) -> TrustAnchor:
    """The anchor; that it is simulated follows from its root, and what the file says of it must agree."""
    found = _members(member, frozenset({"name", "simulated"}), frozenset({"root_der"}))
    root = b64decode(_text(found["root_der"]), validate=True) if "root_der" in found else None
    anchor = anchor_of(root)
    if found["simulated"] is not anchor.simulated:
        raise ValueError("its anchor is not what it says: only Intel's root is not simulated")
    return anchor


def _members(value: object, required: frozenset[str], optional: frozenset[str] = frozenset()) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError("a member is no JSON object")
    for name in required - value.keys():
        raise ValueError(f"it lacks '{name}'")
    for name in value.keys() - required - optional:
        raise ValueError(f"it has an unknown member '{name[:32]}'")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a member is no string")
    return value


def _texts(value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise ValueError("a member is no list")
    return frozenset(_text(each) for each in value)
