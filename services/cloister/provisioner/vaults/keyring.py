"""The root keys that are open: one of them wraps what is new, and each opens what was wrapped under it.

What is wrapped is sealed to the recovery key too, if one was dealt: here, and so nothing is kept without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from cloister.errors import NotReady
from cloister.kit.log import get_logger
from cloister.provisioner.vaults.recovery_copies import RecoveryCopies
from cloister.provisioner.vaults.vault import Record, Vault, Wrapped
from cloister.seal.keys import Secret

UNKNOWN = "root_key.other"
_log = get_logger()


class Keyring:
    """Root keys by name. Thread safe: another one may take over while keys are wrapped and unwrapped.

    Attributes:
        copies: Makes the copies for recovery.

    Args:
        vaults: Not empty; the first one wraps.
    """

    def __init__(self, vaults: Sequence[Vault]) -> None:
        self._vaults = {vault.key_id(): vault for vault in vaults}
        self._wrapping = vaults[0]
        self.copies = RecoveryCopies()

    @property
    def wrapping_id(self) -> str:
        """Name of the root key that wraps."""
        return self._wrapping.key_id()

    @property
    def ids(self) -> frozenset[str]:
        """Names of all that are open."""
        return frozenset(self._vaults)

    def wrap(self, record: Record, secret: Secret) -> Wrapped:
        """Wrap `secret` so that it opens for `record` only; raises as `Vault`."""
        vault = self._wrapping  # once: content and name are of the same root key
        with _told():
            content = vault.wrap(record, secret)
        return Wrapped(content, vault.key_id(), self.copies.copy(record, secret))

    def unwrap(self, record: Record, wrapped: Wrapped) -> Secret:
        """Return what was wrapped for exactly this record.

        Raises:
            SealBroken: It was not.
            NotReady: Its root key is not open (`root_key.other`), or as `Vault`.
            Unavailable: As `Vault`.
        """
        vault = self._vaults.get(wrapped.root_key_id)
        if vault is None:
            raise NotReady("the root key that this lies under is not in the settings", reason=UNKNOWN)
        with _told():
            return vault.unwrap(record, wrapped.content)

    def check_opens(self, root_key_ids: Iterable[str]) -> None:
        """Refuse to go on without a root key that something was wrapped under.

        Raises:
            NotReady: With a sentence that says so (`root_key.other`).
        """
        if set(root_key_ids) - self._vaults.keys():
            raise NotReady(
                "the root key is not the one that the stored keys were wrapped with; put the right one back, in the "
                "settings' [vault] or, while keys lie under two, in [next_vault]",
                reason=UNKNOWN,
            )

    def turn_to(self, vaults: Sequence[Vault]) -> None:
        """Wrap under the first of these from now on; all of them open, and those that did before."""
        self._vaults = {**self._vaults, **{vault.key_id(): vault for vault in vaults}}
        self._wrapping = vaults[0]


@contextmanager
def _told() -> Iterator[None]:
    """Why a vault refuses is for our log: it may name files, and whoever asked can do nothing about it."""
    try:
        yield
    except NotReady as error:
        _log.error("vault.refused", reason=error.reason, error=error)
        raise NotReady("the vault refuses; the provisioner's log says why", reason=error.reason) from None
