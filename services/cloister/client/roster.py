"""Who serves a model, and whom of them this client believes.

The gateway's list is a claim. Each worker on it is judged here, once for each piece of evidence it comes with; a worker
that is not believed is left out, and the reason is kept for whoever asks why nobody remains.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, TypeVar

from cloister.api.v1.gateway_pb2 import ListWorkersRequest, ListWorkersResponse, ServingWorker
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.client.bundle import TrustBundle
from cloister.client.collateral import KnownCollateral
from cloister.client.trust import VerifiedWorker, believe
from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest, Unavailable
from cloister.rpc.channel import Peer

FRESH_S: Final = 10.0
MAX_WORKERS: Final = 256
MAX_JUDGED: Final = 1024
RENEWAL_PAUSE_S: Final = 0.2

Key = tuple[str, str]
_K = TypeVar("_K", bytes, str)


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker that the gateway offered and that was not believed."""

    instance: str
    error: CloisterError


@dataclass(frozen=True, slots=True)
class Serving:
    """The workers of one model: those that are believed, and those that are not."""

    believed: Sequence[VerifiedWorker]
    refused: Sequence[Refused]
    listed_at_s: float


class Roster:
    """Lists and judges the workers of each model, and remembers both for a while.

    Args:
        gateway: Asked for the lists.
        trust: Whom to believe.
        now: Aware UTC.
    """

    def __init__(
        self, gateway: Peer, trust: TrustBundle, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._stub = gateway.stub(GatewayStub)
        self._trust = trust
        self._now = now
        self._serving: dict[Key, Serving] = {}
        self._judged: dict[bytes, VerifiedWorker] = {}
        self._results: dict[str, VerifiedWorker] = {}
        self._renewing: set[Key] = set()
        self._collateral = KnownCollateral()

    @property
    def trust(self) -> TrustBundle:
        """Whom to believe, with the newest set of the verifier's keys that was seen."""
        return self._trust

    async def serving(self, model: str, version: str, timeout_s: float) -> Serving:
        """The model's workers, listed anew when the list has grown old.

        Raises:
            EvidenceRejected: Workers are offered, and none of them is believed.
            Unavailable: No worker serves the model now.
            CloisterError: As ListWorkers.
        """
        key = (model, version)
        known = self._serving.get(key)
        stale = known is None or time.monotonic() - known.listed_at_s > FRESH_S
        # While one call renews the list, the others go on with the old one.
        if stale and (known is None or key not in self._renewing):
            self._renewing.add(key)
            try:
                known = self._serving[key] = await self._list(key, timeout_s)
            finally:
                self._renewing.discard(key)
        assert known is not None
        return _usable(known, model, self._now())

    async def offered(self, model: str, version: str, timeout_s: float) -> Serving:
        """A fresh list with all reasons, for showing; raises only what the call raises."""
        return await self._list((model, version), timeout_s)

    async def with_result(
        self, worker: VerifiedWorker, ear_id: str, model: str, version: str, timeout_s: float
    ) -> VerifiedWorker:
        """The same worker with the Attestation Result that its receipt names: a membership is renewed while it serves.

        Raises:
            EvidenceRejected: Nobody has shown that Attestation Result, or it is for other keys.
        """
        for attempt in range(3):
            found = self._results.get(ear_id)
            if found is not None and found.result.receipt_key == worker.result.receipt_key:
                return found
            await asyncio.sleep(attempt * RENEWAL_PAUSE_S)  # the verifier's news may be on its way to the gateway
            self._serving[model, version] = await self._list((model, version), timeout_s)
        raise EvidenceRejected(
            "the receipt names an Attestation Result that nobody has shown", reason="receipt.result_unknown"
        )

    def forget(self, model: str, version: str) -> None:
        """List the model's workers anew next time."""
        self._serving.pop((model, version), None)

    async def _list(self, key: Key, timeout_s: float) -> Serving:
        request = ListWorkersRequest(model_name=key[0], model_version=key[1])
        answer: ListWorkersResponse = await self._stub.ListWorkers(request, timeout=timeout_s)
        with suppress(InvalidRequest):  # a set that its signers did not sign changes nothing
            self._trust = self._trust.learned(answer.key_set)
        believed: list[VerifiedWorker] = []
        refused: list[Refused] = []
        for offer in answer.workers[:MAX_WORKERS]:
            try:
                believed.append(await self._judge(offer, key[0]))
            except CloisterError as error:
                refused.append(Refused(offer.instance[:64], error))
        return Serving(tuple(believed), tuple(refused), time.monotonic())

    async def _judge(self, offer: ServingWorker, model: str) -> VerifiedWorker:
        content = sha256(model.encode() + b"\0" + offer.SerializeToString(deterministic=True)).digest()
        known = self._judged.get(content)
        if known is not None and known.result.expires_at > self._now():
            return known
        # Both verifiers hold the interpreter for a while: not on the event loop.
        worker = await asyncio.to_thread(believe, offer, model, self._trust, self._now(), collateral=self._collateral)
        _remember(self._judged, content, worker)
        _remember(self._results, worker.result.ear_id, worker)
        return worker


def _remember(into: dict[_K, VerifiedWorker], key: _K, worker: VerifiedWorker) -> None:
    into[key] = worker
    if len(into) > MAX_JUDGED:
        del into[next(iter(into))]  # the oldest


def _usable(serving: Serving, model: str, now: datetime) -> Serving:
    believed = tuple(worker for worker in serving.believed if worker.result.expires_at > now)
    if believed:
        return Serving(believed, serving.refused, serving.listed_at_s)
    if serving.refused:
        first = serving.refused[0]
        count = len(serving.refused)
        step = first.error.step if isinstance(first.error, EvidenceRejected) else 0
        raise EvidenceRejected(
            f"none of {count} workers offered for '{model}' is believed; the first, {first.instance}: {first.error}",
            step=step,
            reason=first.error.reason,
        )
    raise Unavailable(f"no worker serves '{model}' now")
