"""The audit of the provisioner's record over the wire, believing neither its operator nor its host.

`LogAuditor` asks the verifier, which is the record's witness, how far it has come, and the provisioner for the lines.
What it finds good it remembers (`AuditMemory`), and nothing that was once found good may change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.api.v1.verifier_pb2 import GetWitnessedRequest, GetWitnessedResponse
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.client import operator
from cloister.client.audit_export import AuditExport
from cloister.client.audit_memory import AuditMemory, Remembered
from cloister.client.log_audit import LogAudit, Shown, believed, concluded, sizes_of
from cloister.client.log_checks import LinePass, LogKeys, Resumed, SignedHead, left_of, log_key, resumption
from cloister.client.operator import AuditLine
from cloister.errors import LogBroken, NotFound, NotReady
from cloister.kit.log_origin import RESUMED, LogOrigin
from cloister.rpc.channel import Peer
from cloister.tlog import proofs
from cloister.tlog.cosignature import WitnessKey

CALL_S: Final = 10.0
LIST_S: Final = 600.0
POLL_S: Final = 1.0
# A line is countersigned within a second, as long as the witness answers.
LAG_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ProvenLine:
    """One line, and the countersigned head that it was proven to be under.

    Attributes:
        line: As it was listed.
        head: Of a log of which it is one.
        proof: By which hashes.
        pinned: The keys that were pinned for it; None where they had been.
    """

    line: AuditLine
    head: SignedHead
    proof: tuple[bytes, ...]
    pinned: LogKeys | None


class LogAuditor:
    """Audits one mesh's record.

    Args:
        verifier: Connected as an auditor or an owner.
        provisioner: The same.
        memory: What was found good before.
        witness: The verifier's key, where a trust bundle vouches for it.
        owner: Whether it is an owner who asks, and sees lines of its own models only.
    """

    def __init__(
        self,
        verifier: Peer,
        provisioner: Peer,
        memory: AuditMemory,
        *,
        witness: WitnessKey | None = None,
        owner: bool = False,
    ) -> None:
        self._verifier = verifier
        self._provisioner = provisioner
        self._memory = memory
        self._witness = witness
        self._owner = owner

    async def verify(self, export: AuditExport | None = None, *, accept_resume: bool = False) -> LogAudit:
        """Check all lines: of the whole record, or of an owner's models.

        Args:
            export: Is given all that was shown, good or not.
            accept_resume: The owner knows what was lost when the log was resumed, and goes on from what is left.
                Nothing proves then that what is left is what was there. An auditor, who sees all of it, is told of it
                and need not.

        Raises:
            LogBroken: The record does not hold together, or is not what it was (the message says how).
            CloisterError, TimeoutError: As the calls.
        """
        memory, shown = self._memory.read(), await self._shown()
        if export is not None:
            export.begin(shown)
        keys, head, newest = believed(shown, memory, witness=self._witness)
        if self._owner:
            audit = await self._verify_own(keys, head, memory, export, accept_resume=accept_resume)
        else:
            lines = LinePass(sizes_of(head, newest, memory))
            async for line in self._listed(export):
                lines.add(line)
            audit = concluded(lines, keys, head, newest, memory)
        self._memory.write(Remembered(keys, head.note))
        return audit

    async def show(self, sequence: int) -> ProvenLine:
        """One line, proven to be in the record.

        Raises:
            NotFound: There is no such line, or it is about another's model.
            LogBroken, CloisterError, TimeoutError: As `verify`.
        """
        line = await self._line(sequence)
        memory = self._memory.read()
        keys, head = await self._covering(sequence, memory)
        proof = await self._prove(line, head)
        if memory is not None:
            await self._check_grown(memory, head)
        else:
            self._memory.write(Remembered(keys, head.note))
        return ProvenLine(line, head, proof, pinned=keys if memory is None else None)

    async def follow(self) -> AsyncIterator[LogAudit | AuditLine]:
        """An audit of all that there is, and then each new line once it is countersigned and found good.

        Raises:
            LogBroken, CloisterError, TimeoutError: As `verify`.
        """
        audit = await self.verify()
        yield audit
        size = audit.head.head.size
        while True:
            await asyncio.sleep(POLL_S)
            memory = self._memory.read()
            keys, head, _ = believed(await self._shown(), memory, witness=self._witness)
            if head.head.size == size and memory is not None and head.generation == memory.generation:
                continue
            if memory is not None:
                await self._check_grown(memory, head)
            found = [line async for line in self._between(size, head.head.size)]
            for line in found:
                await self._prove(line, head)
            self._memory.write(Remembered(keys, head.note))
            size = head.head.size
            for line in found:
                yield line

    async def _shown(self) -> Shown:
        witnessed: GetWitnessedResponse = await self._verifier.stub(VerifierStub).GetWitnessed(
            GetWitnessedRequest(), timeout=CALL_S
        )
        head: pb.GetCheckpointResponse = await self._provisioner.stub(ProvisionerStub).GetCheckpoint(
            pb.GetCheckpointRequest(), timeout=CALL_S
        )
        public = log_key(head.log_key)
        if witnessed.log_key and log_key(witnessed.log_key) != public:
            raise LogBroken("the witness knows the log by another key", reason="log_key.other")
        return Shown(WitnessKey.from_vkey(witnessed.witness), witnessed.checkpoint, public, head.checkpoint)

    async def _listed(self, export: AuditExport | None) -> AsyncIterator[AuditLine]:
        """Lines as they are shown."""
        async for line in operator.releases(self._provisioner, timeout_s=LIST_S):
            if export is not None:
                export.add(line)
            yield line

    async def _verify_own(
        self,
        keys: LogKeys,
        head: SignedHead,
        memory: Remembered | None,
        export: AuditExport | None,
        *,
        accept_resume: bool,
    ) -> LogAudit:
        """Each line that an owner is shown is in the record, which has only grown, or lost what it owns up to."""
        lines = newer = 0
        resumed: list[Resumed] = []
        async for line in self._listed(export):
            lines += 1
            if line.sequence > head.head.size:
                newer += 1
                continue
            await self._prove(line, head)
            if line.content.get("event") == RESUMED:
                resumed.append(resumption(line))
        kept = await self._left(memory, head, resumed, accept_resume=accept_resume) if memory is not None else None
        return LogAudit(head=head, lines=lines, newer=newer, kept_size=kept, resumed=tuple(resumed), keys=keys)

    async def _left(
        self, memory: Remembered, head: SignedHead, resumed: Sequence[Resumed], *, accept_resume: bool
    ) -> int:
        """How many of the lines that were there when this owner looked last are there still.

        Each generation since then must have its line. With `accept_resume` nothing proves that the first `left` lines
        are those that were seen before: only that what is shown of them is in the record as it is now.
        """
        told = {LogOrigin.parse(each.said.old_origin).generation + 1 for each in resumed}
        for generation in range(memory.generation + 1, head.generation + 1):
            if generation not in told:
                raise LogBroken(
                    f"the log was resumed, and the line that begins generation {generation} is not shown: it is hidden "
                    "from you, or a later loss took it. The mesh's auditor, who is shown all lines, can tell which",
                    reason="log.resumed",
                )
        left = left_of(memory.head, head.generation, resumed)
        if left == memory.head.size:
            await self._check_consistent(memory, head)
        elif not accept_resume:
            raise LogBroken(
                f"the log was resumed after a loss (line {resumed[-1].sequence} says by whom, and why): of "
                f"{memory.head.size} lines that were there {left} are left, and what was done in the others is undone. "
                "Once you have looked at your models ('cloister model list'): cloister audit verify --accept-resume",
                reason="log.resumed",
            )
        return left

    async def _line(self, sequence: int) -> AuditLine:
        async with aclosing(operator.releases(self._provisioner, after=sequence - 1, timeout_s=CALL_S)) as lines:
            line = await anext(lines, None)
        if line is None or line.sequence != sequence:
            raise NotFound(f"there is no line {sequence}, or it is about another owner's model", reason="line.unknown")
        return line

    async def _covering(self, sequence: int, memory: Remembered | None) -> tuple[LogKeys, SignedHead]:
        """A head of so many lines at least."""
        async with asyncio.timeout(LAG_S + CALL_S):
            ends = asyncio.get_running_loop().time() + LAG_S
            while True:
                keys, head, _ = believed(await self._shown(), memory, witness=self._witness)
                if head.head.size >= sequence:
                    return keys, head
                if asyncio.get_running_loop().time() > ends:
                    raise NotReady(f"line {sequence} is not countersigned yet", reason="witness.behind")
                await asyncio.sleep(POLL_S / 2)

    async def _between(self, after: int, last: int) -> AsyncIterator[AuditLine]:
        """Lines after one number up to another; of an owner, only its own."""
        expected = after
        async with aclosing(operator.releases(self._provisioner, after=after, timeout_s=LIST_S)) as lines:
            async for line in lines:
                if line.sequence > last:
                    break
                expected += 1
                if not self._owner and line.sequence != expected:
                    raise LogBroken(f"line {expected} is missing", reason="line.missing")
                yield line
        if not self._owner and expected < last:
            raise LogBroken(
                f"the record ends after line {expected}, and {last} are countersigned", reason="log.truncated"
            )

    async def _prove(self, line: AuditLine, head: SignedHead) -> tuple[bytes, ...]:
        request = pb.ProveInclusionRequest(sequence=line.sequence, size=head.head.size)
        answer: Any = await self._provisioner.stub(ProvisionerStub).ProveInclusion(request, timeout=CALL_S)
        proof = tuple(answer.proof)
        try:
            proofs.verify_inclusion(line.leaf_hash, line.sequence - 1, head.head.size, proof, head.head.root)
        except LogBroken as error:
            raise LogBroken(
                f"line {line.sequence} is not in the record that was countersigned", reason=error.reason
            ) from None
        return proof

    async def _check_grown(self, memory: Remembered, head: SignedHead) -> None:
        """The log has only grown since; one that was resumed in between has to be looked at as a whole."""
        if head.generation != memory.generation:
            raise LogBroken(
                "the log was resumed after a loss since it was seen here: 'cloister audit verify' says what is lost",
                reason="log.resumed",
            )
        await self._check_consistent(memory, head)

    async def _check_consistent(self, memory: Remembered, head: SignedHead) -> None:
        sizes = memory.head.size, head.head.size
        request = pb.ProveConsistencyRequest(old_size=sizes[0], new_size=sizes[1])
        answer: Any = await self._provisioner.stub(ProvisionerStub).ProveConsistency(request, timeout=CALL_S)
        try:
            proofs.verify_consistency(*sizes, list(answer.proof), memory.head.root, head.head.root)
        except LogBroken as error:
            raise LogBroken("the record is not what was seen of it here before", reason="log.forked") from error
