"""Collateral for people who run a verifier: what a file of it is about, and a signed bundle of what was fetched.

Everything here judges by the code that verifiers judge by. No clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.appraisal import collateral_bundle
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral import Collateral, VerifiedCollateral
from cloister.appraisal.collateral_bundle import TYPE, CollateralBundle
from cloister.appraisal.family import Family, family_of_collateral, family_of_quote
from cloister.appraisal.quote import parse_quote
from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest
from cloister.pcs import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralFacts:
    """Collateral of one platform family, as its documents say.

    Attributes:
        tcb_info: When it was issued, and when the next is due; as is `qe_identity`.
        pck_crl: The same of the platforms' revocation list; None, as `root_crl`, where the collateral is not genuine.
        revoked: Entries of that list.
        refusal: Why it does not lead back to the anchor at the time; None where it does.
    """

    tee: str
    fmspc: str
    ca: str
    tcb_evaluation: int
    qe_evaluation: int
    tcb_info: tuple[datetime, datetime]
    qe_identity: tuple[datetime, datetime]
    pck_crl: tuple[datetime, datetime] | None
    root_crl: tuple[datetime, datetime] | None
    revoked: int | None
    valid_until: datetime | None
    refusal: EvidenceRejected | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralSummary:
    """What a file of collateral is about; `version` and `issued_at` are of a bundle, None for collateral by itself."""

    version: int | None
    issued_at: datetime | None
    signers: frozenset[str]
    families: tuple[CollateralFacts, ...]


def summarize(raw: bytes, anchor: TrustAnchor, now: datetime) -> CollateralSummary:
    """Say what a bundle, or QuoteCollateralV3 JSON, is about, and whether it leads back to `anchor` at `now`.

    Raises:
        InvalidRequest: It is neither.
        EvidenceRejected: It names no platform family.
    """
    found = collateral_bundle.read(raw)
    return CollateralSummary(
        version=found.bundle.version if found.bundle else None,
        issued_at=found.bundle.issued_at if found.bundle else None,
        signers=found.signers,
        families=tuple(_facts(Collateral.parse(one), anchor, now) for one in found.collaterals),
    )


def wanted_for_quote(raw_quote: bytes, *, update: str = "standard", evaluation: int | None = None) -> Wanted:
    """The collateral that a quote, believed or not, must be judged by.

    Raises:
        EvidenceRejected: It names no platform family.
    """
    family = family_of_quote(parse_quote(raw_quote))
    return Wanted(
        tee=family.tee.value, fmspc=family.fmspc.hex(), ca=family.ca.value, update=update, evaluation=evaluation
    )


def genuine(answers: Mapping[Wanted, bytes | CloisterError], anchor: TrustAnchor, now: datetime) -> tuple[bytes, ...]:
    """What a source answered, if all of it is genuine, current, and about what was asked.

    Raises:
        CloisterError: The first of its errors, or of ours with its answers.
    """
    found = []
    for wanted, answer in answers.items():
        if isinstance(answer, CloisterError):
            raise answer
        family = _checked(answer, anchor, now)
        if (family.tee, family.fmspc.hex(), family.ca) != (wanted.tee, wanted.fmspc, wanted.ca):
            raise InvalidRequest(f"the service answers with collateral of {family}", reason="collateral.mismatched")
        found.append(answer)
    return tuple(found)


def bundled(
    raws: Sequence[bytes], keys: Sequence[Ed25519PrivateKey], anchor: TrustAnchor, now: datetime, version: int | None
) -> bytes:
    """A signed bundle of collateral, or a bundle with more signatures than it had.

    Args:
        raws: QuoteCollateralV3 JSON of one family each, or one bundle.
        keys: Sign it.
        anchor: What all of it must lead back to at `now`.
        now: Aware.
        version: Of a new bundle; the seconds since 1970 where none is given, which grow by themselves.

    Raises:
        InvalidRequest: A file is neither, or they do not go together.
        EvidenceRejected: Some of it does not lead back to the anchor.
    """
    bundles = [raw for raw in raws if collateral_bundle.is_bundle(raw)]
    for raw in raws:
        for one in collateral_bundle.read(raw).collaterals:
            _checked(one, anchor, now)
    if not bundles:
        number = int(now.timestamp()) if version is None else version
        return CollateralBundle(version=number, issued_at=now, collaterals=tuple(map(_of_family, raws))).signed(keys)
    if len(raws) != 1 or version is not None:
        raise InvalidRequest("a bundle is signed by itself, and keeps its version", reason="collateral.malformed")
    envelope = bundles[0]
    for key in keys:
        envelope = dsse.countersigned(envelope, TYPE, key)
    return envelope


def _of_family(raw: bytes) -> bytes:
    """Collateral of one platform may bring its certificates along; that of its family must not, or no other fits it."""
    return replace(Collateral.parse(raw), pck_certificate_chain=None).to_json()


def _checked(raw: bytes, anchor: TrustAnchor, now: datetime) -> Family:
    collateral = Collateral.parse(raw)
    collateral.verified(anchor, now)
    return family_of_collateral(collateral)


def _facts(collateral: Collateral, anchor: TrustAnchor, now: datetime) -> CollateralFacts:
    family = family_of_collateral(collateral)
    verified, refusal = _verified(collateral, anchor, now)
    tcb, identity = collateral.tcb_info, collateral.qe_identity
    return CollateralFacts(
        tee=family.tee.value,
        fmspc=family.fmspc.hex(),
        ca=family.ca.value,
        tcb_evaluation=tcb.evaluation,
        qe_evaluation=identity.evaluation,
        tcb_info=(tcb.issue_date, tcb.next_update),
        qe_identity=(identity.issue_date, identity.next_update),
        pck_crl=(verified.pck_crl.this_update, verified.pck_crl.next_update) if verified else None,
        root_crl=(verified.root_crl.this_update, verified.root_crl.next_update) if verified else None,
        revoked=len(verified.pck_crl.serials) if verified else None,
        valid_until=verified.valid_until if verified else None,
        refusal=refusal,
    )


def _verified(
    collateral: Collateral, anchor: TrustAnchor, now: datetime
) -> tuple[VerifiedCollateral | None, EvidenceRejected | None]:
    try:
        return collateral.verified(anchor, now), None
    except EvidenceRejected as error:
        return None, error
