"""What a replica does with what it hears of the others: a link's `Listener`."""

from __future__ import annotations

from cloister.errors import CloisterError
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.member import MemberRecord
from cloister.verifier.replicas.ages import SharedMemory
from cloister.verifier.replicas.entries import Kind
from cloister.verifier.replicas.members import SharedMembers
from cloister.verifier.replicas.revocations import SharedRevocations
from cloister.verifier.replicas.runner import Runner


class Listening:
    """Brings what the others say into a replica's own list and memory."""

    def __init__(
        self,
        store: SharedMembers,
        attested: AttestedWorkers,
        memory: SharedMemory,
        revocations: SharedRevocations,
        runner: Runner,
    ) -> None:
        self._store = store
        self._attested = attested
        self._memory = memory
        self._revocations = revocations
        self._runner = runner

    async def load(self) -> None:
        """Read all members, have put back what Redis knows less well than we do, and say what we know."""
        listed = await self._store.read(await self._store.instances())
        ranks = {record.member.instance: record.rank for record, _ in listed}
        self._merge(listed)
        for record, _ in self._attested.records:
            if ranks.get(record.member.instance, -1) < record.rank:
                self._attested.keep(record.member.instance)
        await self._revocations.put_out()
        self._memory.tell()
        self._revocations.begin()

    async def told(self, kind: Kind, about: bytes) -> None:
        """Remember, or bring into force."""
        hear = {
            Kind.AGES: self._memory.hear,
            Kind.RULED: self._revocations.hear,
            Kind.KNOWN: self._revocations.compare,
        }
        await hear[kind](about)

    async def changed(self, instances: list[str]) -> None:
        """Read these."""
        self._merge(await self._store.read(instances))

    def _merge(self, read: list[tuple[MemberRecord, float]]) -> None:
        for record, life_s in read:
            try:
                self._attested.merge(record, life_s=life_s)
            except CloisterError as error:
                self._runner.refused(error.reason, what="member", instance=record.member.instance)
