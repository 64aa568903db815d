"""Whether to believe a verifier, and the trust bundle that comes of it. Pure: no clock, no I/O.

By evidence: a genuine enclave of a build that this client named holds the TLS key we spoke to, and stands for exactly
the root CA, keys, policy and anchor that we were given. By fingerprint: somebody named the root CA, and who answered
had a certificate of it; that is worth what the host of the verifier is worth.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Appraisal, Evidence, Expected, appraise
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.client.bundle import TrustBundle, anchor_of
from cloister.client.pinned import Pinned, PinnedBy
from cloister.client.verifier_site import Offered
from cloister.ear import KeySet
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister.evidence.binding import VERIFIER
from cloister.evidence.mesh_trust import MeshTrust, root_ders
from cloister.kit.key_set import KeySigners, SignedKeySet
from cloister.rpc.certificates import certificate_pem, load_certificates

_KEY_MEMBERS: Final = ("kty", "crv", "x", "y", "kid", "alg", "use")


def believe_verifier(
    offered: Offered, mrenclave: Collection[str], policy: Policy, anchor: TrustAnchor, now: datetime
) -> Appraisal:
    """Judge a verifier by its own evidence.

    Args:
        offered: What it says.
        mrenclave: Measurements of builds of the verifier that this client trusts, in hex; may be empty where the policy
            has reference values, and else nobody is believed.
        policy: What is asked of its platform and code.
        anchor: What its quote must lead back to.
        now: Aware UTC.

    Raises:
        EvidenceRejected: It is not believed; `step` is that of the appraisal where that objected.
        InvalidRequest: Something does not even parse.
    """
    if not mrenclave and not policy.reference_values:
        raise _rejected(
            "no build of the verifier is named, so none is believed: name its measurement", "measurement.unpinned"
        )
    trust, evidence = offered.trust, offered.bundle.evidence
    check_keys(trust)  # 1 the keys are those of the thumbprints, which the digest below covers
    check_anchor(trust, anchor)  # 2 it judges workers by the root that we judge it by
    appraisal = appraise(  # 3 an enclave, for this nonce, with the key we speak to, that stands for what we were given
        Evidence(raw_quote=evidence.quote, claims_bytes=evidence.claims),
        Collateral.parse(offered.bundle.collateral),
        policy,
        anchor,
        now,
        expect=Expected(
            nonce=offered.nonce,
            tls_spki_sha256=offered.tls_spki_sha256,
            config_digest=trust.digest(),
            role=VERIFIER,
            spiffe_id=trust.verifier_id,
            audience=trust.verifier_id,
            cluster=trust.cluster,
        ),
    )
    if mrenclave and appraisal.mrenclave.hex() not in mrenclave:  # 4 of a build that was named
        raise _rejected("its measurement is not one that was named", "measurement.unknown")
    return appraisal


def attested_bundle(trust: MeshTrust, appraisal: Appraisal, fingerprints: Collection[str] = ()) -> TrustBundle:
    """The trust bundle of a verifier that was believed.

    Args:
        trust: What it stands for.
        appraisal: Why it is believed.
        fingerprints: Of the root CA, where somebody named it: evidence says which code runs, not whose mesh it is.

    Raises:
        EvidenceRejected: The mesh has another root CA.
    """
    root_ca_pem = check_fingerprint(trust, fingerprints) if fingerprints else trust.root_ca_pem
    pinned = _pinned(trust, PinnedBy.ATTESTED, appraisal.appraised_at, appraisal.mrenclave.hex())
    return _bundle(trust, root_ca_pem, pinned)


def check_fingerprint(trust: MeshTrust, fingerprints: Collection[str]) -> str:
    """The root CA that was named, as PEM: no other certificate that came along.

    Args:
        trust: What the verifier, or somebody at its address, said.
        fingerprints: SHA-256 of root CA certificates, in hex.

    Raises:
        EvidenceRejected: None of the root certificates is one that was named.
    """
    found = load_certificates(trust.root_ca_pem.encode())
    named = [
        root
        for root, der in zip(found, root_ders(trust.root_ca_pem), strict=True)
        if sha256(der).hexdigest() in fingerprints
    ]
    if not named:
        raise _rejected("the mesh's root CA does not have the fingerprint that was named", "fingerprint.other")
    return "".join(certificate_pem(root).decode() for root in named)


def fingerprint_bundle(trust: MeshTrust, root_ca_pem: str, anchor: TrustAnchor, now: datetime) -> TrustBundle:
    """The trust bundle of a mesh whose root CA somebody named, of what its verifier said under that root.

    Raises:
        EvidenceRejected: The verifier judges workers by another root than this client wants.
    """
    check_keys(trust)
    check_anchor(trust, anchor)
    return _bundle(trust, root_ca_pem, _pinned(trust, PinnedBy.FINGERPRINT, now, None))


def renewed(new: TrustBundle, old: TrustBundle, *, new_keys: bool) -> TrustBundle:
    """A pin made again: what the old bundle names of workers, owners, policies and floors stays.

    Args:
        new: The pin of today.
        old: What is to be replaced.
        new_keys: Whether other keys of the verifier are accepted although no evidence vouches for them.

    Raises:
        EvidenceRejected: It is another mesh, or a weaker pin, or keys changed and nothing vouches for them.
    """
    if (new.cluster, new.verifier_id) != (old.cluster, old.verifier_id):
        raise _rejected("it is the verifier of another mesh than the one that was pinned", "cluster.other")
    if new.pinned is not None and new.pinned.is_weak:
        if old.pinned is not None and not old.pinned.is_weak:
            raise _rejected("what was pinned by evidence is not pinned anew by a fingerprint", "pin.weakened")
        if not _same_keys(new, old) and not new_keys:
            raise _rejected("the verifier's keys are not those that were pinned, and no evidence says so", "keys.other")
    return replace(
        new,
        mrenclave=old.mrenclave,
        td_measurement=old.td_measurement,
        owners=old.owners,
        key_set=old.learned(new.key_set).key_set if new.signers == old.signers else new.key_set,
        policy_toml=old.policy_toml,
        verifier_policies=old.verifier_policies,
        floors=old.floors,
    )


def _same_keys(new: TrustBundle, old: TrustBundle) -> bool:
    """Whether the keys are named by the same people, or where nobody names them, are the same."""
    if new.signers is not None or old.signers is not None:
        return new.signers == old.signers
    return new.thumbprints == old.thumbprints


def check_keys(trust: MeshTrust) -> None:
    """Check that the key set has exactly the keys whose thumbprints it is said to have; raises EvidenceRejected.

    Where people are named who may say which keys they are, they must have said so of these.
    """
    try:
        held = KeySet.from_jwks(trust.jwks).thumbprints
    except InvalidRequest as error:
        raise _rejected("the verifier's keys are no key set", "keys.malformed") from error
    if held != trust.thumbprints:
        raise _rejected("the verifier's keys are not those that its thumbprints name", "keys.other")
    signers = _signers(trust)
    if signers is not None:
        try:
            signed = SignedKeySet.read(trust.key_set, signers, issuer=trust.verifier_id)
        except InvalidRequest as error:
            raise _rejected("those who may name the verifier's keys have not named these", "keys.unsigned") from error
        if not held <= signed.keys.thumbprints:
            raise _rejected("the verifier shows a key that its signed key set does not name", "keys.other")


def _signers(trust: MeshTrust) -> KeySigners | None:
    if not trust.key_signers:
        return None
    try:
        return KeySigners(trust.key_signers, trust.key_threshold)
    except InvalidRequest as error:
        raise _rejected("who may name the verifier's keys is not told as it must be", "keys.malformed") from error


def check_anchor(trust: MeshTrust, anchor: TrustAnchor) -> None:
    """Check that the verifier judges workers by the root that this client wants; raises EvidenceRejected."""
    if trust.anchor_root_der != anchor.root_der:
        raise _rejected(
            "it judges workers by another root than the one wanted here, which is Intel's if none was named",
            "anchor.other",
        )


def _bundle(trust: MeshTrust, root_ca_pem: str, pinned: Pinned) -> TrustBundle:
    """A bundle of what was vouched for, and of nothing that may have come along: no PEM headers, no members of keys."""
    roots = load_certificates(root_ca_pem.encode())
    keys = [{name: key[name] for name in _KEY_MEMBERS if name in key} for key in json.loads(trust.jwks)["keys"]]
    return TrustBundle(
        cluster=trust.cluster,
        root_ca_pem="".join(certificate_pem(root).decode() for root in roots),
        verifier_id=trust.verifier_id,
        verifier_jwks=json.dumps({"keys": keys}),
        thumbprints=trust.thumbprints,
        anchor=anchor_of(trust.anchor_root_der),
        signers=_signers(trust),
        key_set=trust.key_set,
        witness=trust.witness,
        pinned=pinned,
    )


def _pinned(trust: MeshTrust, by: PinnedBy, at: datetime, mrenclave: str | None) -> Pinned:
    return Pinned(
        by=by,
        at=at.astimezone(UTC).replace(microsecond=0),
        verifier_mrenclave=mrenclave,
        policy_id=trust.policy_id,
        policy_version=trust.policy_version,
        policy_digest=trust.policy_digest.hex(),
    )


def _rejected(message: str, reason: str) -> EvidenceRejected:
    return EvidenceRejected(message, reason=reason)
