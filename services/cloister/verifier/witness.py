"""The verifier as witness of the provisioner's log (c2sp.org/tlog-witness; attacks F10, H07).

It countersigns a head of the log only if that extends the newest one which it has countersigned, and keeps it on disk
first. So a log that is cut off, forked or put back from an older copy is found out here at the latest, and whoever
holds a countersigned head knows that there is no other history beside it. The log's key is believed from first sight
on. One thread does all of it, one call after the other: of two heads that extend the same one, one is too late.

A log goes on after a loss in a new generation only, whose line `log.resumed` must own up to all that was countersigned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cloister.errors import CloisterError, InvalidRequest, LogBroken, NotReady
from cloister.kit.audit import AuditLog
from cloister.kit.log import get_logger
from cloister.kit.log_origin import LogOrigin, Resumption
from cloister.rpc.files import create_private, read_private
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.cosignature import WitnessSigner
from cloister.tlog.merkle import leaf_hash
from cloister.tlog.note import Ed25519Key, NoteSignature, SignedNote
from cloister.tlog.proofs import verify_consistency, verify_inclusion
from cloister.verifier.witness_file import Witnessed, WitnessFile, lost
from cloister.verifier.writer_lease import WriterLease

MAX_PROOF: Final = 63
"""Hashes in a proof; no tree of 2^63 leaves needs more."""
# What an operator should hear of at once. The other refusals happen in honest meshes.
_ALARMING: Final = frozenset({"log.forked", "log_key.other", "resumption.false", "signature.invalid"})
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Resumed:
    """The line that begins a generation, and the proof that it is in the head that is shown with it."""

    line: bytes
    sequence: int
    proof: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A head that is to be countersigned.

    Attributes:
        writer: Who asks, 16 bytes.
        log_key: By which the head is signed.
        note: The head, signed.
        old_size: Of the head that it extends, as the writer remembers what was countersigned last.
        proof: That it does.
        resumed: With the first head of a generation.
        leaving: The writer gives its lease back.
        writer_name: What people know it by.
    """

    writer: bytes
    log_key: Ed25519Key
    note: SignedNote
    old_size: int
    proof: Sequence[bytes]
    resumed: Resumed | None = None
    leaving: bool = False
    writer_name: str = ""


class Newest(NamedTuple):
    """What there is to show: the newest head, and who may write."""

    witness: str
    known: Witnessed | None
    lease_left_s: float
    writer_name: str


class Witness:
    """Countersigns one log; `opened` makes one. Called on the event loop."""

    def __init__(
        self,
        cluster: str,
        signer: WitnessSigner,
        kept: WitnessFile,
        *,
        thread: ThreadPoolExecutor,
        audit: AuditLog,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        refused: Callable[[str], None],
    ) -> None:
        self.key = signer.key
        self._cluster = cluster
        self._signer = signer
        self._kept = kept
        self._known = kept.load()
        self._lease = WriterLease(self._known.writer if self._known else b"", monotonic=monotonic)
        self._thread = thread
        self._audit = audit
        self._now = now
        self._refused = refused
        self._alarmed = ("", "")

    @classmethod
    @contextmanager
    def opened(
        cls,
        folder: Path,
        cluster: str,
        *,
        audit: AuditLog,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        refused: Callable[[str], None],
    ) -> Iterator[Witness]:
        """The witness whose key and memory are in `folder`; both are made where they are not there.

        Args:
            folder: Private to this service.
            cluster: Whose log.
            audit: Hears of first sights, new generations and alarms.
            now: Aware; what cosignatures are dated with.
            monotonic: A clock that never goes back, in seconds.
            refused: Called with the reason of each refusal.

        Raises:
            NotReady: One of them cannot be used; the message says which.
        """
        key_path, path = folder / "witness.key", folder / "witness.db"
        if key_path.exists() and not path.exists():  # the key is made after the file, which was there then
            raise lost(path)
        with WitnessFile.opened(path) as kept, ThreadPoolExecutor(1, thread_name_prefix="witness") as thread:
            signer = WitnessSigner(f"{cluster}/verifier", _key(key_path))
            yield cls(cluster, signer, kept, thread=thread, audit=audit, now=now, monotonic=monotonic, refused=refused)

    def newest(self) -> Newest:
        """The newest head that was countersigned, with both signatures; and the writer's lease."""
        return Newest(self.key.vkey, self._known, self._lease.left_s, self._lease.name)

    async def countersign(self, shown: Shown) -> NoteSignature:
        """Countersign a head, and renew its writer's lease.

        Raises:
            InvalidRequest: It is no head of this cluster's log.
            NotReady: Another writes (`writer.other`); another head was countersigned meanwhile (`witness.moved`); the
                generation has ended (`generation.ended`).
            LogBroken: The log is not what it was (`log.forked`, `log_key.other`, `resumption.false`).
            Unavailable: That cannot be kept; nothing was countersigned.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._countersign, shown)

    def _countersign(self, shown: Shown) -> NoteSignature:
        head = Checkpoint.parse(shown.note.text)
        try:
            origin = self._own(head)  # 1 it is of our log
            self._check_key(shown)  # 2 signed by the key that we know
            self._lease.check(shown.writer)  # 3 shown by the one that writes
            self._check_extends(shown, head, origin)  # 4 and all that we countersigned is in it
        except CloisterError as refusal:
            self._tell(refusal, head)
            raise
        cosignature = self._signer.cosign(head, time_s=int(self._now().timestamp()))
        self._keep(shown, cosignature)
        return cosignature

    def _own(self, head: Checkpoint) -> LogOrigin:
        origin = LogOrigin.parse(head.origin)
        if origin.cluster != self._cluster:
            raise InvalidRequest("the checkpoint is of another mesh's log", reason="origin.unknown")
        return origin

    def _check_key(self, shown: Shown) -> None:
        if self._known is not None and shown.log_key.public != self._known.log_key.public:
            raise LogBroken("the log is signed with another key than it was", reason="log_key.other")
        shown.log_key.verify(shown.note)

    def _check_extends(self, shown: Shown, head: Checkpoint, origin: LogOrigin) -> None:
        known = self._known
        if known is None:
            if shown.old_size or shown.proof:
                raise NotReady("this witness has countersigned no head yet", reason="witness.moved")
            self._audit.append("log.first_seen", origin=str(origin), size=head.size, log_key=shown.log_key.vkey)
            return
        if origin.generation == known.origin.generation:
            if shown.old_size != known.head.size:
                raise NotReady(f"the newest head here is of {known.head.size} lines", reason="witness.moved")
            try:
                verify_consistency(shown.old_size, head.size, shown.proof, known.head.root, head.root)
            except LogBroken:
                raise LogBroken("the head does not extend the one before it", reason="log.forked") from None
            return
        if origin.generation < known.origin.generation:
            raise NotReady(f"the log goes on as {known.head.origin}", reason="generation.ended")
        self._check_resumed(shown, head, origin, known)

    def _check_resumed(self, shown: Shown, head: Checkpoint, origin: LogOrigin, known: Witnessed) -> None:
        """A new generation owns up to the whole of the old one, as we know it."""
        if shown.resumed is None:
            raise LogBroken("a new generation begins with a line that says so", reason="resumption.false")
        said, before = Resumption.parse(shown.resumed.line), known.head
        if (
            origin.generation != known.origin.generation + 1
            or said.old_origin != before.origin
            or said.should_size < before.size
            or (said.should_size == before.size and said.should_root != before.root)
            or said.have_size != shown.resumed.sequence - 1
        ):
            raise LogBroken(f"the new generation does not own up to {before.size} lines", reason="resumption.false")
        index, leaf = said.have_size, leaf_hash(shown.resumed.line)
        verify_inclusion(leaf, index, head.size, shown.resumed.proof, head.root)
        _log.error("log.resumed", origin=head.origin, had_lines=before.size, kept_lines=said.have_size)
        self._audit.append(
            "log.resumed", origin=head.origin, size=head.size, old_size=before.size, kept_size=said.have_size
        )

    def _keep(self, shown: Shown, cosignature: NoteSignature) -> None:
        # With the log's signature and ours, and no stranger's.
        note = SignedNote(shown.note.text, (*shown.note.by(shown.log_key)[:1], cosignature))
        writer = b"" if shown.leaving else shown.writer
        known = Witnessed(shown.log_key, note, writer)
        if self._known is None or (known.note.text, writer) != (self._known.note.text, self._known.writer):
            self._kept.save(known)
        self._known = known
        self._lease.renew(shown.writer, shown.writer_name)
        if shown.leaving:
            self._lease.end()

    def _tell(self, refusal: CloisterError, head: Checkpoint) -> None:
        self._refused(refusal.reason)
        alarm = (refusal.reason, head.text)
        if refusal.reason not in _ALARMING or alarm == self._alarmed:
            return
        self._alarmed = alarm
        _log.error("log.refused", reason=refusal.reason, origin=head.origin, size=head.size, root=head.root.hex())
        self._audit.append(
            "log.refused", reason=refusal.reason, origin=head.origin, size=head.size, root=head.root.hex()
        )


def _key(path: Path) -> Ed25519PrivateKey:
    """The key in a file, made where there is none; raises NotReady."""
    try:
        if not path.exists():
            made = Ed25519PrivateKey.generate()
            create_private(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key = load_pem_private_key(read_private(path), None)
    except OSError as error:
        raise NotReady(f"{path} cannot be written: {error.strerror}", reason="witness_key.unusable") from error
    except (ValueError, TypeError) as error:
        raise NotReady(f"{path} is no key in PEM", reason="witness_key.unusable") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise NotReady(f"{path} is no Ed25519 key", reason="witness_key.unusable")
    return key
