"""The verifier's signing keys on disk: the first one, and each that takes over from the one before.

A rotation is one signed statement: from `begins_at` on the new key signs, and the old one no more. It is made ahead of
time, so everybody knows the new key before it is used. Retired keys stay in the set with the times they signed in, so
that kept receipts can be checked; nothing that is issued outside those times is believed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.cli.failures import Stop
from cloister.ear import SigningKey
from cloister.kit.key_set import MAX_KEYS, PAYLOAD_TYPE, KeySigners, SignedKeySet, signed, timed
from cloister.rpc.files import create_private, replace_private

KEY_SET_FILE: Final = "key_set.json"
KEY_LIFE: Final = timedelta(days=365)
# Longer than stock clients keep a key set that they got over HTTPS.
LEAD: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The folder of a verifier's keys.

    Attributes:
        issuer: SPIFFE id of the verifier.
    """

    folder: Path
    issuer: str

    @property
    def path(self) -> Path:
        """The signed set."""
        return self.folder / KEY_SET_FILE

    def found(self, signer: Ed25519PrivateKey, now: datetime, *, life: timedelta = KEY_LIFE) -> bytes:
        """Make the folder with one key that signs from now on; return the signed set."""
        self.folder.mkdir(mode=0o700)
        key = self._new_key()
        begins_at = now - timedelta(minutes=5)  # as certificates: whose clock is a little behind believes it too
        return self._publish([timed(key.jwk(), begins_at, now + life)], 1, [signer])

    def rotate(
        self,
        signers: Sequence[Ed25519PrivateKey],
        now: datetime,
        *,
        trusted: KeySigners,
        lead: timedelta = LEAD,
        life: timedelta = KEY_LIFE,
        disown: bool = False,
    ) -> tuple[str, datetime, bytes]:
        """Have a new key take over; return its thumbprint, when that is, and the signed set.

        With `disown` the keys before it are not in the set any more, so nothing that they signed is believed.

        Raises:
            InvalidRequest: The set in the folder is not one that `trusted` signed.
            Stop: `signers` are not enough of them, or the set is full.
        """
        held = SignedKeySet.read(self.path.read_bytes(), trusted, issuer=self.issuer)
        if len(held.jwks) >= MAX_KEYS:
            raise Stop(f"the set holds {MAX_KEYS} keys already")
        begins_at = (now + lead).replace(microsecond=0) + timedelta(seconds=1)
        if disown:
            begins_at = now.replace(microsecond=0) - timedelta(minutes=5)
        rows = [] if disown else [_ended(row, begins_at) for row in held.jwks]
        check_enough(signers, trusted)
        key = self._new_key()
        rows.append(timed(key.jwk(), begins_at, begins_at + life))
        return key.kid, begins_at, self._publish(rows, held.version + 1, signers)

    def _new_key(self) -> SigningKey:
        key = SigningKey.generate()
        create_private(self.folder / f"{key.kid}.key", key.to_pem())
        return key

    def _publish(self, rows: Sequence[Mapping[str, Any]], version: int, signers: Sequence[Ed25519PrivateKey]) -> bytes:
        envelope = signed(rows, issuer=self.issuer, version=version, signers=signers)
        replace_private(self.path, envelope)
        return envelope


def check_enough(signers: Sequence[Ed25519PrivateKey], trusted: KeySigners) -> None:
    """Raise Stop unless these keys are enough of the trusted ones."""
    given = {key.public_key().public_bytes_raw().hex() for key in signers} & trusted.keys
    if len(given) < trusted.threshold:
        raise Stop(f"{len(given)} of the keys that may sign the key set were given, and {trusted.threshold} must")


def shown(envelope: bytes) -> dict[str, Any]:
    """What a set says, believed by nobody: for showing it."""
    found: dict[str, Any] = json.loads(dsse.payload(envelope, PAYLOAD_TYPE))
    return found


def _ended(row: Mapping[str, Any], ends_at: datetime) -> dict[str, Any]:
    """A key that ends when its successor begins, and one that never began and is overtaken, then too."""
    at = int(ends_at.timestamp())
    if int(row["nbf"]) >= at:
        raise Stop("another key is to take over later than this one would; wait for it, or give a longer --lead")
    return {**row, "exp": min(int(row["exp"]), at)}
