"""The keys that Attestation Results are signed with: one that signs, others that will or did.

`KeyRing` reads a folder: `key_set.json`, which is the signed set of public keys with the times that each signs in, and
`<thumbprint>.key` for each key that we hold. The folder is looked at again and again, so a rotation needs no restart:
`cloister verifier rotate-key` adds a key and says from when on it signs, and the ring goes over to it then. A key that
has retired stays published until the last result that it signed has ended; its private half is erased when it retires.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from cloister.ear import LEEWAY, KeySet, SigningKey
from cloister.errors import CloisterError, InvalidRequest, NotReady
from cloister.kit.key_set import KeySigners, SignedKeySet
from cloister.kit.log import get_logger
from cloister.rpc.files import read_private, read_public
from cloister.verifier.mesh_ca import MAX_LIFE

KEY_SET_FILE: Final = "key_set.json"
LOOK_S: Final = 1.0
# Whoever has to fetch the keys of those who name the next one wants to hear of it in time.
WARN_BEFORE: Final = timedelta(days=30)
# An appraisal is signed by the key of the moment it was made at, a little later.
STILL_SIGNING: Final = timedelta(seconds=60)
_log = get_logger()


class SigningKeys(Protocol):
    """What signs now, and what others check it by. For any thread."""

    def at(self, moment: datetime) -> SigningKey:
        """The key that signs results issued at a moment of late; raises NotReady when there is none."""

    def jwks(self) -> str:
        """Every key that a result in force may be signed with, as a JSON Web Key Set."""

    def key_set(self) -> bytes:
        """The same as signed by those who vouch for it; empty where nobody does."""

    def keys(self) -> KeySet:
        """The same, to check with."""

    def look(self) -> None:
        """Take over what has changed. Blocking."""

    @property
    def signers(self) -> KeySigners | None:
        """Who may say which keys these are; None where each is pinned."""


class PinnedKey:
    """One key, whose thumbprint others have pinned."""

    signers = None

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self._jwks = json.dumps({"keys": [key.jwk()]})
        self._keys = KeySet.from_jwks(self._jwks)

    @classmethod
    def opened(cls, path: Path) -> PinnedKey:
        """Read the key in a file; raises NotReady when it is none, or lies open to others."""
        return cls(_private(path))

    def at(self, moment: datetime) -> SigningKey:
        """See `SigningKeys`."""
        return self._key

    def jwks(self) -> str:
        """See `SigningKeys`."""
        return self._jwks

    def key_set(self) -> bytes:
        """See `SigningKeys`."""
        return b""

    def keys(self) -> KeySet:
        """See `SigningKeys`."""
        return self._keys

    def look(self) -> None:
        """See `SigningKeys`: one key does not change."""


class KeyRing:
    """The keys in a folder.

    Args:
        folder: Holds the signed set and our private keys.
        signers: Who must have signed the set: no relying party would believe another.
        issuer: Our own SPIFFE id.
        now: Aware UTC.

    Raises:
        NotReady: The set is not there, or not signed as it must be, or we hold none of its keys.
    """

    def __init__(self, folder: Path, signers: KeySigners, *, issuer: str, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self.signers = signers
        self._issuer = issuer
        self._now = now
        self._held: dict[str, SigningKey] = {}
        self._warned_of: datetime | None = None
        try:
            self._set = self._read()
        except CloisterError as error:
            raise NotReady(f"signing_keys {folder}: {error}", reason="signing_key.unusable") from error
        self._hold()
        self.at(now())

    def at(self, moment: datetime) -> SigningKey:
        """See `SigningKeys`: of the keys that sign then, the one that began last."""
        held, keys = self._held, self._set.keys  # each replaced whole, so one look at each is of one piece
        signing = [kid for kid in held if keys.signs_at(kid, moment)]
        if not signing:
            raise NotReady(
                "no key may sign now: 'cloister verifier rotate-key' makes the next", reason="signing_key.ended"
            )
        return held[max(signing, key=lambda kid: keys.window(kid).begins_at)]

    def jwks(self) -> str:
        """See `SigningKeys`."""
        return self._set.published(self._now() - MAX_LIFE - LEEWAY)

    def key_set(self) -> bytes:
        """See `SigningKeys`."""
        return self._set.raw

    def keys(self) -> KeySet:
        """See `SigningKeys`."""
        return self._set.keys

    def look(self) -> None:
        """Take over what the folder holds now, and erase what has retired. Blocking."""
        try:
            if read_public(self._folder / KEY_SET_FILE) != self._set.raw:
                found = self._read()
                if found.version > self._set.version:
                    self._set = found
                    _log.info("signing_keys.reloaded", version=found.version, kids=sorted(found.keys.thumbprints))
        except CloisterError as error:
            _log.error("signing_keys.refused", folder=str(self._folder), error=error)
        self._hold()
        self._erase()
        self._warn()

    def _read(self) -> SignedKeySet:
        return SignedKeySet.read(read_public(self._folder / KEY_SET_FILE), self.signers, issuer=self._issuer)

    def _hold(self) -> None:
        retired_by, held = self._now() - STILL_SIGNING, dict(self._held)
        for kid in self._set.keys.thumbprints - held.keys():
            path = self._folder / f"{kid}.key"
            if self._set.keys.window(kid).ends_at > retired_by and path.exists():
                try:
                    key = _private(path)
                except NotReady as error:
                    _log.error("signing_key.refused", error=error)
                    continue
                if key.kid == kid:
                    held[kid] = key
        self._held = held

    def _warn(self) -> None:
        """Say once of each key that it is the last one, and ends soon."""
        last = max((self._set.keys.window(kid).ends_at for kid in self._held), default=self._now())
        if last != self._warned_of and last - self._now() < WARN_BEFORE:
            self._warned_of = last
            _log.warning("signing_key.ending", ends_at=last, consequence="then no result is issued any more")

    def _erase(self) -> None:
        retired_by, before, keys = self._now() - STILL_SIGNING, self._held, self._set.keys
        self._held = {
            kid: key for kid, key in before.items() if keys.named(kid) and keys.window(kid).ends_at > retired_by
        }
        for kid in before.keys() - self._held.keys():
            try:
                (self._folder / f"{kid}.key").unlink(missing_ok=True)
            except OSError as error:
                _log.warning("signing_key.not_erased", kid=kid, error=error)
            else:
                _log.info("signing_key.retired", kid=kid)


def _private(path: Path) -> SigningKey:
    try:
        return SigningKey.from_pem(read_private(path))
    except InvalidRequest as error:
        raise NotReady(f"signing_key {path}: {error}", reason="signing_key.unusable") from error
