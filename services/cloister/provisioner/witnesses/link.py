"""One witness of the log, as the provisioner that writes it sees it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, NamedTuple, Protocol

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.errors import CloisterError, LogBroken, NotReady
from cloister.kit.log_origin import LogOrigin
from cloister.rpc.channel import Peer
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.cosignature import WitnessKey
from cloister.tlog.note import Ed25519Key, NoteSignature, SignedNote

CALL_S: Final = 2.0
LEASE_S: Final = 10.0
"""As in `verifier/writer_lease.py`, which counts it from later on."""


class WitnessedLog(Protocol):
    """The log that is shown. All of it blocks, and is for any thread."""

    def checkpoint(self) -> str:
        """The newest head that is on disk, as a signed note."""

    def size(self) -> int:
        """How many lines it has."""

    def root(self, size: int) -> bytes:
        """The root over the first `size` lines."""

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """The proof that the one extends the other."""

    def inclusion(self, sequence: int, size: int) -> list[bytes]:
        """The proof that a line is among the first `size`."""

    def line(self, sequence: int) -> bytes:
        """A line, as exact bytes."""

    def log_key(self) -> bytes:
        """The Ed25519 public key that heads are signed with."""

    def resumed(self) -> int:
        """Sequence number of the line that begins this generation; 0 for the first generation."""


class Lease(NamedTuple):
    """The writer's lease at one witness.

    Attributes:
        left_s: For how long nobody but its holder may have it; 0 where anybody may.
        holder: What the holder calls itself; empty where the witness does not know.
    """

    left_s: float
    holder: str


class WitnessLink:
    """What one witness has said.

    Attributes:
        witness: Its key; None until it was heard.
        countersigned: How many lines of the log it has countersigned.
        lease_ends_s: When its lease for this writer ends, by our own clock.
        refusal: Why it does not countersign now; None where it does.
    """

    def __init__(self, verifier: Peer, writer: bytes, *, name: str = "", monotonic: Callable[[], float]) -> None:
        self.witness: WitnessKey | None = None
        self.countersigned = 0
        self.lease_ends_s = -math.inf
        self.refusal: Exception | None = None
        self._verifier = verifier
        self._writer = writer
        self._name = name
        self._monotonic = monotonic
        self._known: Checkpoint | None = None  # its newest head; one of no lines where it has none

    @property
    def address(self) -> str:
        """Where it is."""
        return self._verifier.address

    async def newest(self) -> str:
        """The newest head that it countersigned, with all signatures; empty while there is none.

        Raises:
            CloisterError, TimeoutError: As the call.
            LogBroken: It has not signed what it hands out.
        """
        answer = await self._newest()
        self.witness = WitnessKey.from_vkey(answer.witness)
        if answer.checkpoint:
            self.witness.verify(SignedNote.parse(answer.checkpoint))
        return str(answer.checkpoint)

    async def lease(self) -> Lease:
        """Who may write to the log now, by what it says; raises as `newest`."""
        answer = await self._newest()
        self.witness = WitnessKey.from_vkey(answer.witness)
        return Lease(answer.lease_left_ms / 1000, str(answer.writer_name))

    async def show(
        self, log: WitnessedLog, note: SignedNote, *, thread: Executor, leaving: bool = False
    ) -> NoteSignature | None:
        """Have a head countersigned; None where it is not, and `refusal` says why.

        Args:
            log: Whose head it is; it is read on `thread`.
            note: The head, signed.
            thread: Which nothing else holds up.
            leaving: The lease is given back.
        """
        asked_s = self._monotonic()
        try:
            async with asyncio.timeout(2 * CALL_S):
                cosignature = await self._shown(log, note, thread, leaving=leaving)
        except (NotReady, LogBroken) as refusal:
            self._known = None
            if refusal.reason != "witness.moved":  # an answer was lost: it is asked what it has, and shown what follows
                self.lease_ends_s = -math.inf
            self.refusal = refusal
            return None
        except (CloisterError, TimeoutError) as silence:  # the lease that it gave counts until its end
            self._known = None
            self.refusal = silence
            return None
        self.refusal, self.lease_ends_s = None, -math.inf if leaving else asked_s + LEASE_S
        return cosignature

    async def _shown(self, log: WitnessedLog, note: SignedNote, thread: Executor, *, leaving: bool) -> NoteSignature:
        head = Checkpoint.parse(note.text)
        known, run = self._known or await self._learned(log, head, thread), asyncio.get_running_loop().run_in_executor
        request = pb.WitnessRequest(
            writer=self._writer,
            checkpoint=str(note),
            log_key=Ed25519Key(head.origin, log.log_key()).vkey,
            leaving=leaving,
            writer_name=self._name,
        )
        if known.size == 0 or known.origin == head.origin:
            request.old_size = known.size
            request.proof.extend(await run(thread, log.consistency, known.size, head.size))
        else:
            request.resumed_sequence = await run(thread, log.resumed)
            request.resumed = await run(thread, log.line, request.resumed_sequence)
            request.resumed_proof.extend(await run(thread, log.inclusion, request.resumed_sequence, head.size))
        answer: Any = await self._verifier.stub(VerifierStub).Witness(request, timeout=CALL_S)
        cosignature = NoteSignature.parse(answer.cosignature)
        assert self.witness is not None  # learned before anything is shown
        self.witness.verify(note.with_signatures([cosignature]))
        self._known, self.countersigned = head, head.size
        return cosignature

    async def _learned(self, log: WitnessedLog, head: Checkpoint, thread: Executor) -> Checkpoint:
        """The witness's newest head, which our log must have in it, or own up to."""
        text = await self.newest()
        if not text:
            return Checkpoint(head.origin, 0, log.root(0))
        known = Checkpoint.parse(SignedNote.parse(text).text)
        generation, ours = LogOrigin.parse(known.origin).generation, LogOrigin.parse(head.origin).generation
        if generation > ours:
            raise LogBroken(f"the log goes on as {known.origin}", reason="state.forked")
        run = asyncio.get_running_loop().run_in_executor
        if generation == ours and (known.size > head.size or await run(thread, log.root, known.size) != known.root):
            raise LogBroken("what was countersigned is not in this log", reason="state.forked")
        return known

    async def _newest(self) -> pb.GetWitnessedResponse:
        request = pb.GetWitnessedRequest()
        answer: pb.GetWitnessedResponse = await self._verifier.stub(VerifierStub).GetWitnessed(request, timeout=CALL_S)
        return answer
