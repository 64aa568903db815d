"""How new each part of collateral is: what must never decrease, whoever brings it.

Collateral is of four parts that live for themselves: TCB info of a family, identity of a TEE's quoting enclave, and the
revocation lists of the root and of a PCK CA. All but the first are shared by families. Each is dated by its issuer;
Intel numbers its documents by evaluation data set, and every one of its revocation lists 1, which says nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from cloister.appraisal.collateral import Collateral, VerifiedCollateral

Age = list[int]
Ages = Mapping[str, Age]

_FIELDS: Final = {
    "qe_identity": (
        "qe_identity",
        "qe_identity_document",
        "qe_identity_signature",
        "qe_identity_issuer_chain",
    ),
    "root_crl": ("root_ca_crl",),
    "pck_crl": ("pck_crl", "pck_crl_issuer_chain"),
}


def ages(verified: VerifiedCollateral) -> dict[str, Age]:
    """Return how new each part is, under a name that says what it is about; a larger list is newer."""
    tcb = verified.tcb_info
    own = {f"{_root(verified)} tcb_info {tcb.tee} {tcb.fmspc.hex()}": [tcb.evaluation, _seconds(tcb.issue_date)]}
    return own | dict(_shared(verified).values())


def older(age: Ages, than: Ages) -> list[str]:
    """Return the names of the parts that are older than what `than` knows of them."""
    return sorted(part for part, seen in than.items() if part in age and age[part] < seen)


def newest(*known: Ages) -> dict[str, Age]:
    """Return of each part the newest that any of `known` knows."""
    parts = {part for ages in known for part in ages}
    return {part: max(ages[part] for ages in known if part in ages) for part in parts}


def from_future(collateral: Collateral, now: datetime) -> bool:
    """Whether a document is dated after `now`: its issuer's clock is ahead, or, more likely, ours is behind."""
    return max(collateral.tcb_info.issue_date, collateral.qe_identity.issue_date) > now


def renewed(verified: VerifiedCollateral, others: Iterable[VerifiedCollateral]) -> Collateral:
    """Return collateral with every shared part as new as the newest among `others`, all under the same anchor.

    Two families that were fetched on different days carry different lists of the same CA. Each part is signed for
    itself, so the newer one serves both.
    """
    newest = {kind: (name, age, verified) for kind, (name, age) in _shared(verified).items()}
    for other in others:
        for kind, (name, age) in _shared(other).items():
            if name == newest[kind][0] and age > newest[kind][1]:
                newest[kind] = (name, age, other)
    changes = {
        field: getattr(donor.collateral, field)
        for kind, (_, _, donor) in newest.items()
        if donor is not verified
        for field in _FIELDS[kind]
    }
    return Collateral.parse(replace(verified.collateral, **changes).to_json()) if changes else verified.collateral


def _shared(verified: VerifiedCollateral) -> dict[str, tuple[str, Age]]:
    """Name and age of each part that families share, by its kind."""
    identity, root = verified.qe_identity, _root(verified)
    lists = {"root_crl": verified.root_crl, "pck_crl": verified.pck_crl}
    return {
        "qe_identity": (f"{root} qe_identity {identity.tee}", [identity.evaluation, _seconds(identity.issue_date)]),
        **{
            kind: (f"{root} crl {crl.issuer.rfc4514_string()}", [_seconds(crl.this_update)])
            for kind, crl in lists.items()
        },
    }


def _root(verified: VerifiedCollateral) -> str:
    return hashlib.sha256(verified.anchor.root_der).hexdigest()[:16]


def _seconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())
