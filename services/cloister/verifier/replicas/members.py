"""Members that several verifiers share: what one admits, all know within a moment, and a pin holds at all of them.

The list itself lives in every replica, in its `AttestedWorkers`. Redis passes it on: a sealed record for each instance,
and an entry in the stream that says whose has changed. Records are merged by rank, so the order in which they are read
does not matter, and an old copy of Redis brings back nothing that one replica knows better; what Redis has lost, each
replica puts back. Collateral is kept once, under its hash.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

from cloister.appraisal.collateral import MAX_COLLATERAL_BYTES
from cloister.errors import EvidenceRejected, InvalidRequest, SealBroken, Unavailable
from cloister.verifier.member import Keys, MemberRecord
from cloister.verifier.replicas import scripts
from cloister.verifier.replicas.entries import Kind
from cloister.verifier.replicas.link import Link
from cloister.verifier.replicas.runner import Runner
from cloister.verifier.replicas.sealing import RecordSeal

MAX_INSTANCES: Final = 65_536
_RANK_DIGITS: Final = 20
_PAGE: Final = 64
_COLLATERALS: Final = 64


class SharedMembers:
    """The `MemberStore` of several replicas.

    Args:
        max_life_s: How long a membership can be, whatever a record says.
        now: Aware UTC.
    """

    def __init__(
        self, link: Link, runner: Runner, seal: RecordSeal, *, max_life_s: float, now: Callable[[], datetime]
    ) -> None:
        self._link = link
        self._runner = runner
        self._seal = seal
        self._max_life_s = max_life_s
        self._now = now
        self._collateral: OrderedDict[bytes, bytes] = OrderedDict()

    async def pin(self, instance: str, keys: Keys, *, life_s: float) -> None:
        """See `MemberStore`."""
        place = f"pin {instance}"
        packed = keys.lasting
        made, known = self._seal.seal(place, packed), b""
        for _ in range(3):
            held = await self._link.call(scripts.PIN, instance, made, _ms(life_s), known)
            if held is None:
                return
            try:
                if self._seal.open(place, held) != packed:
                    raise EvidenceRejected("this instance is known with other keys", reason="instance.keys_changed")
            except SealBroken as error:
                self._runner.refused(error.reason, what="pin", instance=instance)
                raise Unavailable("the shared state is not what it must be", reason=error.reason) from error
            known = held
        raise Unavailable("others change the same pin; try again", reason="state.busy")

    async def put(self, record: MemberRecord, *, life_s: float) -> None:
        """See `MemberStore`."""
        if life_s <= 0:
            return
        await self._keep_collateral(record)
        instance, rank = record.member.instance, f"{record.rank:0{_RANK_DIGITS}d}"
        sealed = self._seal.seal(f"member {instance} {rank}", record.encoded())
        await self._link.write(scripts.PUT, Kind.CHANGED, instance.encode(), instance, rank, sealed, _ms(life_s))

    async def _keep_collateral(self, record: MemberRecord) -> None:
        sha256, content = record.collateral_sha256, record.member.collateral
        life = _ms(2 * self._max_life_s)
        if not await self._link.call(scripts.KEEP, sha256.hex(), life, b""):
            await self._link.call(scripts.KEEP, sha256.hex(), life, content)
        self._remember(sha256, content)

    async def read(self, instances: Sequence[str]) -> list[tuple[MemberRecord, float]]:
        """What Redis has of these instances, and for how many seconds it counts; what is not ours is left out."""
        found = []
        for page in _pages(instances):
            for instance, raw in zip(page, await self._link.call(scripts.FETCH, *page), strict=True):
                try:
                    record = await self._opened(instance, raw) if raw else None
                except (SealBroken, InvalidRequest) as error:
                    self._runner.refused(error.reason, what="member", instance=instance)
                else:
                    found += [(record, self._life_s(record))] if record is not None else []
        return found

    async def instances(self) -> list[str]:
        """All that Redis has a record of."""
        listed: list[Any] = await self._link.call(scripts.LIST, MAX_INSTANCES)
        return [name.decode("ascii", "replace") for name in listed]

    async def _opened(self, instance: str, raw: bytes) -> MemberRecord:
        rank = raw[:_RANK_DIGITS].decode("ascii", "replace")
        plain = self._seal.open(f"member {instance} {rank}", raw[_RANK_DIGITS:])
        record, sha256 = MemberRecord.decoded(plain)
        if sha256 not in self._collateral:
            content = await self._link.call(scripts.COLLATERAL, sha256.hex(), MAX_COLLATERAL_BYTES)
            completed = record.completed(content or b"", sha256)
            self._remember(sha256, completed.member.collateral)
        return record.completed(self._collateral[sha256], sha256)

    def _remember(self, sha256: bytes, content: bytes) -> None:
        self._collateral[sha256] = content
        self._collateral.move_to_end(sha256)
        while len(self._collateral) > _COLLATERALS:
            self._collateral.popitem(last=False)

    def _life_s(self, record: MemberRecord) -> float:
        return min((record.member.expires_at - self._now()).total_seconds(), self._max_life_s)


def _pages(instances: Sequence[str]) -> Iterator[list[str]]:
    waiting = iter(instances)
    while page := list(islice(waiting, _PAGE)):
        yield page


def _ms(life_s: float) -> int:
    return max(1, int(life_s * 1000))
