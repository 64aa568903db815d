"""A provisioner's record as an auditor is shown it, honest until a test bends it, with a real witness beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.client.audit_memory import AuditMemory
from cloister.client.log_auditor import LogAuditor
from cloister.errors import NotReady
from cloister.kit.audit import AuditLog
from cloister.kit.log_origin import RESUMED
from cloister.tlog.cosignature import WitnessKey
from cloister.tlog.merkle import leaf_hash
from fakes.results import Clock
from fakes.shown_log import ShownLog, opened_witness
from fakes.verifier_at_hand import VerifierAtHand


class ShownRecord:
    """The `Peer` of a provisioner.

    Attributes:
        log: What it keeps, and proves things by.
        listed: Changes the lines that it lists; others than an honest one's.
        only: Lists lines of this model only, as for an owner.
        head: Its newest head, where not that of its log.
    """

    def __init__(self, log: ShownLog) -> None:
        self.log = log
        self.listed: Callable[[list[bytes]], list[bytes | None]] = list
        self.only = ""
        self.head = ""
        self.address = "provisioner:1"

    def stub(self, _stub_class: object) -> Any:
        """What has the calls."""
        return self

    async def ListAudit(
        self,
        request: pb.ListAuditRequest,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> AsyncIterator[AuditRecord]:
        for sequence, record in enumerate(self.listed(self.log.lines), 1):
            if sequence <= request.after_sequence or record is None:
                continue
            said = json.loads(record)
            if self.only and said.get("model") != self.only and said["event"] != RESUMED:
                continue
            yield AuditRecord(sequence=sequence, record=record, leaf_hash=leaf_hash(record))

    async def GetCheckpoint(
        self,
        request: pb.GetCheckpointRequest,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> pb.GetCheckpointResponse:
        text = self.head or self.log.checkpoint()
        return pb.GetCheckpointResponse(checkpoint=text, log_key=self.log.signer.key.vkey)

    async def ProveInclusion(
        self,
        request: pb.ProveInclusionRequest,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> pb.ProveInclusionResponse:
        return pb.ProveInclusionResponse(proof=self.log.inclusion(request.sequence, request.size))

    async def ProveConsistency(
        self,
        request: pb.ProveConsistencyRequest,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> pb.ProveConsistencyResponse:
        return pb.ProveConsistencyResponse(proof=self.log.consistency(request.old_size, request.new_size))


class AuditRoom:
    """A record, its witness, and an auditor who remembers."""

    def __init__(self, folder: Path, verifier: VerifierAtHand, lines: int) -> None:
        self.folder = folder
        self.verifier = verifier
        self.memory = AuditMemory(folder / "audit.json")
        self.record = ShownRecord(ShownLog(lines))

    @property
    def log(self) -> ShownLog:
        """What the provisioner keeps."""
        return self.record.log

    def auditor(self, *, owner: bool = False, witness: WitnessKey | None = None) -> LogAuditor:
        """One who looks now."""
        verifier: Any = self.verifier
        provisioner: Any = self.record
        return LogAuditor(verifier, provisioner, self.memory, witness=witness, owner=owner)

    async def witness(self) -> None:
        """Have the newest head countersigned, as the provisioner does each second."""
        try:
            await self.verifier.witness.countersign(self.log.shown())
        except NotReady as moved:
            raise AssertionError("this log is shown out of turn") from moved
        self.log.old_size = len(self.log.lines)

    async def grow(self, lines: int = 1, **content: Any) -> None:
        """More lines, countersigned."""
        self.log.add(lines, **content)
        await self.witness()


@contextmanager
def audit_room(folder: Path, lines: int = 0) -> Iterator[AuditRoom]:
    """A room whose witness is open."""
    clock = Clock()
    with (
        AuditLog.opened(folder / "verifier-audit.db") as audit,
        opened_witness(folder, audit, monotonic=clock) as witness,
    ):
        yield AuditRoom(folder, VerifierAtHand(witness), lines)
