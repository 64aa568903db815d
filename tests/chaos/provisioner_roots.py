"""Two root keys that a provisioner goes over to in turn, for processes that are killed while they do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cloister.provisioner.ledger.database import NAME, Database
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.opening import opened
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.opening import Opened
from cloister.provisioner.vaults.root_key import RootKeyVault
from cloister.seal.keys import Secret
from fakes.results import CLUSTER

ROOT_KEYS = (RootKeyVault(Secret(b"r" * 32)), RootKeyVault(Secret(b"n" * 32)))


class TwoRoots:
    """See `Roots`: the next one is always the other of the two.

    Args:
        used: Names of those that something lies under; while there are two, a rotation is under way, to the second.
    """

    def __init__(self, used: Collection[str]) -> None:
        in_use = [vault for vault in ROOT_KEYS if vault.key_id() in used] or ROOT_KEYS[:1]
        self.keyring = Keyring(ROOT_KEYS)
        self.keyring.turn_to(in_use[-1:])

    def next(self, used: Collection[str]) -> list[Opened]:
        """The other one, and the one in use; while a rotation is under way, the one that it goes over to."""
        to = next(vault for vault in ROOT_KEYS if (vault.key_id() == self.keyring.wrapping_id) == (len(used) > 1))
        return [Opened("file", [to], lambda: None)]

    def turn_to(self, opened: Sequence[Opened]) -> None:
        """See `Roots`."""
        self.keyring.turn_to([vault for each in opened for vault in each.vaults])

    def back_end_of(self, _root_key_id: str) -> str:
        """See `Roots`."""
        return "file"


@contextmanager
def opened_with_both(state: Path) -> Iterator[tuple[Ledger, TwoRoots]]:
    """The ledger of a state, as at a start, and its root keys."""
    with Database.opened(state / NAME) as database:
        roots = TwoRoots(database.root_key_ids())
        with opened(database, roots.keyring, cluster=CLUSTER) as ledger:
            yield ledger, roots
