"""Collateral bundles: collateral of many platform families in one file that people sign.

The payload of the envelope (`cloister.dsse`) is JSON: `format`, a `version` that only grows, `issued_at`, and
`collaterals`, each an object with the QuoteCollateralV3 names. Intel's signatures say that each is genuine; those on
the bundle say that the people who run the mesh meant it to be used, all of it and nothing older. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.appraisal import strict_json
from cloister.appraisal.collateral import MAX_COLLATERAL_BYTES
from cloister.errors import InvalidRequest

TYPE: Final = "application/vnd.cloister.collateral+json"
FORMAT: Final = "cloister-collateral-bundle-1"
MAX_FAMILIES: Final = 64
MAX_FILE_BYTES: Final = dsse.MAX_ENVELOPE_BYTES

_MAX_VERSION: Final = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralBundle:
    """What a bundle holds.

    Attributes:
        version: Grows with every bundle of a mesh; one with a smaller number never comes into force again.
        issued_at: When it was put together, in UTC, to the second.
        collaterals: QuoteCollateralV3 JSON, one for each family; not parsed here.
    """

    version: int
    issued_at: datetime
    collaterals: tuple[bytes, ...] = field(repr=False)

    def signed(self, keys: Sequence[Ed25519PrivateKey]) -> bytes:
        """The bundle as a file, signed by each of `keys`.

        Raises:
            InvalidRequest: It is too large, has no collateral or too much, or its version is out of range.
        """
        payload = self.payload()
        CollateralBundle.parse(payload)
        return dsse.sign(payload, TYPE, keys)

    def payload(self) -> bytes:
        """The bundle as JSON, signed by nobody."""
        members = {
            "format": FORMAT,
            "version": self.version,
            "issued_at": self.issued_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "collaterals": [json.loads(raw) for raw in self.collaterals],
        }
        return json.dumps(members).encode()

    @classmethod
    def parse(cls, payload: bytes) -> CollateralBundle:
        """Read a bundle's JSON.

        Raises:
            InvalidRequest: It is none (`collateral.malformed`, `collateral.unsupported`).
        """
        record = strict_json.parse(payload, path="bundle", max_bytes=MAX_FILE_BYTES)
        if record.text("format", max_length=64) != FORMAT:
            raise InvalidRequest(f"bundle is not of format {FORMAT}", reason="collateral.unsupported")
        record.refuse_others("format", "version", "issued_at", "collaterals")
        collaterals = [one.to_json() for one in record.records("collaterals", most=MAX_FAMILIES)]
        for n, one in enumerate(collaterals):
            if len(one) > MAX_COLLATERAL_BYTES:
                raise InvalidRequest(f"bundle.collaterals[{n}] is too large", reason="collateral.malformed")
        return cls(
            version=record.integer("version", most=_MAX_VERSION),
            issued_at=record.moment("issued_at"),
            collaterals=tuple(collaterals),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralFile:
    """A file of collateral, as it was read.

    Attributes:
        bundle: None for a file with the collateral of one family that nobody but Intel has signed.
        signers: Public keys in hex whose signatures on the bundle hold, trusted or not.
    """

    collaterals: tuple[bytes, ...] = field(repr=False)
    bundle: CollateralBundle | None = None
    signers: frozenset[str] = frozenset()


def read(raw: bytes, signers: Collection[str] = (), threshold: int = 1) -> CollateralFile:
    """Read a file of collateral: a bundle, or QuoteCollateralV3 JSON.

    Args:
        raw: The file.
        signers: Keys in hex, enough of which must have signed; where there are none, nobody need have.
        threshold: How many are enough.

    Raises:
        InvalidRequest: It is neither (`collateral.malformed`, `signature.malformed`), or is not signed as it must be
            (`signature.insufficient`).
    """
    if not is_bundle(raw):
        if signers:
            raise InvalidRequest("the collateral is no signed bundle, and must be", reason="signature.insufficient")
        return CollateralFile(collaterals=(raw,))
    if signers:
        dsse.verified(raw, TYPE, signers, threshold=threshold)
    bundle = CollateralBundle.parse(dsse.payload(raw, TYPE))
    return CollateralFile(collaterals=bundle.collaterals, bundle=bundle, signers=dsse.signers(raw, TYPE))


def is_bundle(raw: bytes) -> bool:
    """Whether a file means to be a bundle, rather than the collateral of one family."""
    try:
        members = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(members, dict) and "payloadType" in members
