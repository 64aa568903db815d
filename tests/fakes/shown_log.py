"""A log that a provisioner shows to witnesses: honest until a test bends it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.kit.audit import AuditLog
from cloister.kit.log_origin import RESUMED, LogOrigin
from cloister.tlog import proofs
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.merkle import leaf_hash, node_hash, root
from cloister.tlog.note import NoteSigner, SignedNote
from cloister.verifier.witness import Resumed, Shown, Witness
from fakes.sim import CLUSTER


@contextmanager
def opened_witness(
    folder: Path,
    audit: AuditLog,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    refused: Callable[[str], None] = lambda _: None,
) -> Iterator[Witness]:
    """A verifier's witness with its state in `folder`."""
    with Witness.opened(
        folder, CLUSTER, audit=audit, now=lambda: datetime.now(UTC), monotonic=monotonic, refused=refused
    ) as witness:
        yield witness


class ShownLog:
    """Lines in memory, as a provisioner has them on disk. The `WitnessedLog` of the provisioner's loop."""

    def __init__(self, lines: int = 0, *, writer: bytes = b"w" * 16) -> None:
        self.lines: list[bytes] = []
        self.writer = writer
        self.generation = 1
        self.key = Ed25519PrivateKey.generate()
        self.old_size = 0
        self.resumed_at = 0
        self.add(lines)

    @property
    def origin(self) -> str:
        """Of its checkpoints."""
        return str(LogOrigin(CLUSTER, self.generation))

    @property
    def signer(self) -> NoteSigner:
        """Signs them."""
        return NoteSigner(self.origin, self.key)

    def add(self, lines: int = 1, **content: Any) -> None:
        """So many more lines."""
        for _ in range(lines):
            said = {"event": "key.released", "sequence": len(self.lines) + 1, "model": "digits", **content}
            self.lines.append(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())

    def copied(self, *, writer: bytes = b"c" * 16) -> ShownLog:
        """A clone of it, that goes its own way from here."""
        clone = ShownLog(writer=writer)
        clone.lines, clone.generation, clone.key = list(self.lines), self.generation, self.key
        clone.old_size, clone.resumed_at = self.old_size, self.resumed_at
        return clone

    def leaves(self) -> list[bytes]:
        """Hashes of the lines."""
        return [leaf_hash(line) for line in self.lines]

    def head(self, size: int | None = None) -> Checkpoint:
        """The head over the first `size` lines, or over all."""
        leaves = self.leaves()[: len(self.lines) if size is None else size]
        return Checkpoint(self.origin, len(leaves), root(leaves))

    def note(self, size: int | None = None) -> SignedNote:
        """The same, signed."""
        return self.signer.sign(self.head(size).text)

    def subtree(self, level: int, index: int) -> bytes:
        """The hash of a perfect subtree."""
        if level == 0:
            return leaf_hash(self.lines[index])
        return node_hash(self.subtree(level - 1, 2 * index), self.subtree(level - 1, 2 * index + 1))

    def shown(self, **changes: Any) -> Shown:
        """What is sent to a witness that countersigned `old_size` lines last."""
        resumed = None
        if self.resumed_at:
            proof = self.inclusion(self.resumed_at, len(self.lines))
            resumed = Resumed(self.lines[self.resumed_at - 1], self.resumed_at, proof)
        made = Shown(
            writer=self.writer,
            log_key=self.signer.key,
            note=self.note(),
            old_size=self.old_size,
            proof=self.consistency(self.old_size, len(self.lines)) if self.old_size <= len(self.lines) else (),
            resumed=resumed,
        )
        return replace(made, **changes)

    def resume(self, keep: int, *, should_size: int, should_root: bytes, **content: Any) -> None:
        """Go on from the first `keep` lines in a new generation, as an operator has a provisioner do."""
        del self.lines[keep:]
        said = {"old_origin": self.origin, "should_size": should_size, "should_root": should_root.hex()}
        self.add(1, **{"event": RESUMED, "have_size": keep, "reason": "disk lost", **said, **content})
        self.generation, self.resumed_at = self.generation + 1, keep + 1

    def checkpoint(self) -> str:
        """See `WitnessedLog`."""
        return str(self.note())

    def size(self) -> int:
        """See `WitnessedLog`."""
        return len(self.lines)

    def root(self, size: int) -> bytes:
        """See `WitnessedLog`."""
        return self.head(size).root

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """See `WitnessedLog`."""
        return proofs.consistency(old_size, new_size, self.subtree)

    def inclusion(self, sequence: int, size: int) -> list[bytes]:
        """See `WitnessedLog`."""
        return proofs.inclusion(sequence - 1, size, self.subtree)

    def line(self, sequence: int) -> bytes:
        """See `WitnessedLog`."""
        return self.lines[sequence - 1]

    def log_key(self) -> bytes:
        """See `WitnessedLog`."""
        return self.signer.key.public

    def resumed(self) -> int:
        """See `WitnessedLog`."""
        return self.resumed_at
