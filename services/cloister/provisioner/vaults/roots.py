"""The root keys of the settings, opened: the one in use, and the next one as soon as something lies under it.

Which of them wraps is told by what is stored, not by the settings: the one of `next_vault` from the moment that a key
was re-wrapped under it, so a rotation that was broken off goes on where it was. Of a back end that knows versions it is
the newest one that was used, until a rotation goes over to a newer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from cloister.errors import CloisterError, NotReady
from cloister.kit.log import get_logger
from cloister.provisioner.vaults.keyring import UNKNOWN, Keyring
from cloister.provisioner.vaults.opening import Opened, open_vault
from cloister.provisioner.vaults.passphrase import begun
from cloister.provisioner.vaults.settings import VaultSettings

_log = get_logger()


class Roots:
    """What the settings name, opened; `opened` makes it. Blocking.

    Attributes:
        keyring: Of all of them.
    """

    def __init__(
        self, settings: VaultSettings, upcoming: VaultSettings | None, state: Path, opened: Sequence[Opened]
    ) -> None:
        self._settings = settings
        self._upcoming = upcoming
        self._state = state
        self._opened = list(opened)
        self.keyring = Keyring([vault for each in opened for vault in each.vaults])

    @classmethod
    def opened(
        cls, settings: VaultSettings, upcoming: VaultSettings | None, state: Path, used: Collection[str]
    ) -> Roots:
        """Open them.

        Args:
            settings: Of the root key in use.
            upcoming: Of the next one, which need not be there while nothing lies under it.
            state: The provisioner's folder.
            used: Names of all root keys that something lies under.

        Raises:
            NotReady: One is not usable, or something lies under one that the settings do not name (`root_key.other`).
            Unavailable: A back end does not answer (`vault.unavailable`).
        """
        opened = [open_vault(settings, state, begin=not begun(state))]
        if upcoming is not None and not _all_in(used, opened):
            opened.insert(0, open_vault(upcoming, state, begin=False))
        roots = cls(settings, upcoming, state, opened)
        roots.keyring.check_opens(used)
        vaults = [vault for each in opened for vault in each.vaults]
        in_use = next((vault for vault in vaults if vault.key_id() in used), opened[-1].vaults[0])
        roots.keyring.turn_to([in_use])
        return roots

    def next(self, used: Collection[str]) -> list[Opened]:
        """Open the next root key, and the one in use anew: that of `next_vault`, or the newest version, comes first.

        Args:
            used: Names of all root keys that something lies under.

        Raises:
            NotReady: It is not usable; or what the settings name at this moment would not open all that is there, so
                that a start after this would fail (`root_key.other`).
            Unavailable: Its back end does not answer.
        """
        opened = [open_vault(self._settings, self._state, begin=False)]
        if self._upcoming is not None:
            opened.insert(0, open_vault(self._upcoming, self._state, begin=True))
        if not _all_in(used, opened):
            raise NotReady(
                "what [vault] and [next_vault] name now would not open all that is there: first put the root key that "
                "is in use in the place of [vault]'s, and the next one in [next_vault]'s",
                reason=UNKNOWN,
            )
        return opened

    def turn_to(self, opened: Sequence[Opened]) -> None:
        """Wrap under the first of these from now on."""
        self._opened.extend(opened)
        self.keyring.turn_to([vault for each in opened for vault in each.vaults])

    def back_end_of(self, root_key_id: str) -> str:
        """The back end of a root key; empty where it is not open."""
        for opened in self._opened:
            if any(vault.key_id() == root_key_id for vault in opened.vaults):
                return opened.back_end
        return ""

    def keep_alive(self) -> None:
        """Renew what we are logged in with, where it is time to; what goes wrong is told when a key is wanted."""
        for opened in self._opened:
            try:
                opened.keep_alive()
            except CloisterError as error:
                _log.warning("vault.not_kept_alive", back_end=opened.back_end, reason=error.reason, error=error)


def _all_in(used: Collection[str], opened: Sequence[Opened]) -> bool:
    return set(used) <= {vault.key_id() for each in opened for vault in each.vaults}
