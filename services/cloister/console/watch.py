"""What the console knows of the mesh: asked of gateway, verifier and provisioner again and again while somebody looks.

All calls are an auditor's, who may change nothing. A service that does not answer is part of what there is to see: what
it said last is shown on, with its time. Nobody looks, nobody asks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.api.v1.gateway_pb2 import GetStatusResponse
from cloister.api.v1.provisioner_pb2 import ModelSummary
from cloister.api.v1.verifier_pb2 import GetWitnessedRequest, GetWitnessedResponse, Revocation
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.client import (
    AuditLine,
    TrustBundle,
    appraisals,
    attested_evidence,
    list_models,
    mesh_status,
    published_keys,
    releases,
    revocations,
)
from cloister.console.judged import Judged, judged
from cloister.console.traffic import Traffic
from cloister.errors import CloisterError, Unavailable
from cloister.rpc.channel import Peer
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.note import SignedNote

POLL_S: Final = 1.0
CALL_S: Final = 4.0
IDLE_S: Final = 20.0
REJUDGE_S: Final = 30.0
MAX_LINES: Final = 200
JUDGED_FOR: Final = timedelta(seconds=60)
SERVICES: Final = ("gateway", "verifier", "provisioner")


@dataclass(slots=True)
class Service:
    """How the last call of a service went: the time of its last answer, and what is wrong since, empty for nothing."""

    address: str
    answered_at: datetime | None = None
    trouble: str = ""


@dataclass(slots=True)
class Seen:
    """All that is known, as far as each service has told it.

    Attributes:
        evidence: By instance, with what is to be believed of it by our own trust bundle.
        releases: The provisioner's newest lines, as `appraisals` are the verifier's; oldest first.
        witnessed: How many of the provisioner's lines the verifier has countersigned; None where it has none.
    """

    services: dict[str, Service]
    status: GetStatusResponse | None = None
    models: list[ModelSummary] = field(default_factory=list)
    revocations: list[Revocation] = field(default_factory=list)
    evidence: Mapping[str, Judged] = field(default_factory=dict)
    releases: deque[AuditLine] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    appraisals: deque[AuditLine] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    witnessed: int | None = None
    traffic: Traffic = field(default_factory=Traffic)


class MeshWatch:
    """Keeps `seen` up to date while somebody asks for it.

    Args:
        peers: By service.
        trust: What evidence is judged by.
        now: Aware UTC.
    """

    def __init__(
        self, peers: Mapping[str, Peer], trust: TrustBundle, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._peers = peers
        self._trust = trust
        self._now = now
        self._asked_s = -IDLE_S
        self._asked = asyncio.Event()
        self._looked = asyncio.Condition()
        self._looks = dict.fromkeys(SERVICES, 0)
        self._judged_for: object = None
        self.seen = Seen({name: Service(peers[name].address) for name in SERVICES})

    async def current(self) -> Seen:
        """What there is, no older than a few seconds as far as services answer."""
        fresh = self._is_watched()
        self._asked_s = time.monotonic()
        self._asked.set()
        if not fresh:
            before = dict(self._looks)
            with suppress(TimeoutError):
                async with asyncio.timeout(CALL_S), self._looked:
                    await self._looked.wait_for(lambda: all(self._looks[name] > before[name] for name in SERVICES))
        return self.seen

    async def running(self) -> None:
        """Look at the mesh until cancelled; a service that is slow to answer holds up none of the others."""
        async with asyncio.TaskGroup() as group:
            for name, ask in zip(SERVICES, (self._gateway, self._verifier, self._provisioner), strict=True):
                group.create_task(self._following(name, ask))

    async def _following(self, name: str, ask: Callable[[], Awaitable[None]]) -> None:
        while True:
            if not self._is_watched():
                self._asked.clear()
                await self._asked.wait()
            await ask()
            async with self._looked:
                self._looks[name] += 1
                self._looked.notify_all()
            await asyncio.sleep(POLL_S)

    def _is_watched(self) -> bool:
        return time.monotonic() - self._asked_s < IDLE_S

    async def _gateway(self) -> None:
        async with self._asking("gateway") as gateway:
            self.seen.status = await mesh_status(gateway, CALL_S)
            self.seen.traffic.note(self.seen.status, time.monotonic())

    async def _verifier(self) -> None:
        async with self._asking("verifier") as verifier:
            lines = self.seen.appraisals
            after = lines[-1].sequence if lines else 0
            lines.extend([line async for line in appraisals(verifier, after, CALL_S, newest=MAX_LINES)])
            self.seen.revocations = await revocations(verifier, CALL_S)
            self.seen.witnessed = await _witnessed(verifier)
            if (now_for := self._judging_for()) != self._judged_for:
                await self._judge(verifier)
                self._judged_for = now_for

    def _judging_for(self) -> object:
        """Changes when evidence may have: with the record, with who is in the fleet, and now and then."""
        lines, status = self.seen.appraisals, self.seen.status
        fleet = frozenset(worker.instance for worker in status.workers) if status is not None else frozenset()
        return lines[-1].sequence if lines else 0, fleet, time.monotonic() // REJUDGE_S

    async def _judge(self, verifier: Peer) -> None:
        self._trust = self._trust.learned(await published_keys(verifier, CALL_S))
        offered = {name: bundle async for name, bundle in attested_evidence(verifier, CALL_S)}
        self.seen.evidence = await asyncio.to_thread(_all_judged, offered, self.seen.evidence, self._trust, self._now())

    async def _provisioner(self) -> None:
        async with self._asking("provisioner") as provisioner:
            lines = self.seen.releases
            after = lines[-1].sequence if lines else 0
            lines.extend([line async for line in releases(provisioner, "", after, CALL_S, newest=MAX_LINES)])
            self.seen.models = list(await list_models(provisioner))

    @asynccontextmanager
    async def _asking(self, name: str) -> AsyncIterator[Peer]:
        """Calls of one service: what goes wrong in them is noted, and raised no further."""
        service = self.seen.services[name]
        try:
            yield self._peers[name]
        except TimeoutError:
            service.trouble = f"it did not answer within {CALL_S:.0f} seconds"
        except Unavailable:
            service.trouble = "it cannot be reached"
        except CloisterError as error:
            service.trouble = f"it refuses: {error} ({error.reason})"
        else:
            service.trouble, service.answered_at = "", self._now()


async def _witnessed(verifier: Peer) -> int | None:
    newest: GetWitnessedResponse = await verifier.stub(VerifierStub).GetWitnessed(GetWitnessedRequest(), timeout=CALL_S)
    return Checkpoint.parse(SignedNote.parse(newest.checkpoint).text).size if newest.checkpoint else None


def _all_judged(
    offered: Mapping[str, EvidenceBundle], known: Mapping[str, Judged], trust: TrustBundle, now: datetime
) -> Mapping[str, Judged]:
    """Each judged, unless it is what was judged a moment before."""
    found: dict[str, Judged] = {}
    for instance, bundle in offered.items():
        before = known.get(instance)
        kept = before is not None and before.bundle == bundle and now - before.judgement.judged_at < JUDGED_FOR
        found[instance] = before if kept and before is not None else judged(bundle, trust, now)
    return found
