"""Whether members still stand: their evidence judged anew, by the policy and the collateral of today.

A member was believed when it joined. When the policy changes, or a refresh of collateral revokes a platform, whoever
would not be believed today goes at once, and not when its result ends. Without collateral to judge by nobody goes: the
fault is ours, and results end by themselves.

Members are judged where new evidence is, a few at a time beside it. A judgement that comes to no end takes nobody out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cloister.appraisal.appraise import Evidence, Expected
from cloister.appraisal.policy import Policy
from cloister.errors import EvidenceRejected, InternalError, NotReady, Unavailable
from cloister.kit.audit import AuditLog
from cloister.kit.log import get_logger
from cloister.verifier.attested import AttestedWorkers, Member
from cloister.verifier.collateral import Endorsements
from cloister.verifier.judges import Case, Judge

Endorsed = Callable[[bytes, datetime], Endorsements]
"""The collateral in force for a quote at a time; raises NotReady where there is none. Blocks, on any thread."""

Expel = Callable[[Member, str], Awaitable[object]]
"""Takes a member out because it is not believed any more; the words say why."""

AT_ONCE: Final = 8

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Fallen:
    """A member that is not believed any more, and which check objected."""

    instance: str
    step: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What came of judging all members anew.

    Attributes:
        policy: The one policy they were all judged by.
        stood: How many are believed as before.
        fallen: Those that were revoked.
        unjudged: How many stay because there was nothing to judge them by.
    """

    policy: Policy
    stood: int
    fallen: tuple[Fallen, ...]
    unjudged: int


def case_of(member: Member, policy: Policy, endorsements: Endorsements, now: datetime) -> Case:
    """A member's evidence as if it came now, but for the challenge, which was used."""
    keys = member.keys
    return Case(
        evidence=Evidence(raw_quote=member.quote, claims_bytes=member.claims),
        expect=Expected(
            instance=member.instance,
            spiffe_id=member.spiffe_id,
            tls_spki_sha256=keys.tls_spki_sha256,
            receipt_key=keys.receipt_key,
            hpke_suite=keys.hpke_suite,
            hpke_public=keys.hpke_public,
            tee=policy.tee,
        ),
        endorsements=endorsements,
        policy=policy,
        now=now,
    )


class Standing:
    """Judges members anew, and revokes those that fell.

    Args:
        policy: The policy in force.
        endorsed: The collateral in force.
        expel: How a member that fell is put out.
        now: Aware UTC.
    """

    def __init__(
        self,
        *,
        attested: AttestedWorkers,
        policy: Callable[[], Policy],
        endorsed: Endorsed,
        judge: Judge,
        expel: Expel,
        audit: AuditLog,
        now: Callable[[], datetime],
    ) -> None:
        self._attested = attested
        self._policy = policy
        self._endorsed = endorsed
        self._judge = judge
        self._expel = expel
        self._audit = audit
        self._now = now

    async def review(self, cause: str) -> Review:
        """Judge everyone who is a member now, and revoke who is not believed any more.

        Who joins or renews meanwhile was judged by what is in force, and is left alone.

        Args:
            cause: What changed, for the record: `policy`, `collateral`.
        """
        policy, members = self._policy(), self._attested.members
        found: dict[str, Fallen | None] = {}
        waiting = iter(members)

        async def judge_in_turn() -> None:
            for member in waiting:
                with suppress(NotReady, Unavailable, InternalError):
                    found[member.instance] = await self._judged(member, policy, cause)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(judge_in_turn())
        outcomes = [found[member.instance] for member in members if member.instance in found]
        fallen = tuple(outcome for outcome in outcomes if outcome is not None)
        return Review(policy=policy, stood=outcomes.count(None), fallen=fallen, unjudged=len(members) - len(outcomes))

    async def _judged(self, member: Member, policy: Policy, cause: str) -> Fallen | None:
        """Judge one and revoke it if it fell; None if it stands, or is not the member any more that was judged."""
        now = self._now()
        try:
            endorsements = await asyncio.to_thread(self._endorsed, member.quote, now)
            await self._judge.judge(case_of(member, policy, endorsements, now))
        except EvidenceRejected as objection:
            if self._attested.get(member.instance) is not member:
                return None
            fallen = Fallen(member.instance, objection.step, objection.reason)
            await self._expel(member, f"no longer believed since the {cause} changed: {objection.reason}")
            await self._record(fallen, policy, cause)
            return fallen
        return None

    async def _record(self, fallen: Fallen, policy: Policy, cause: str) -> None:
        """After the fact: what lets somebody in waits for the disk, what keeps one out does not."""
        _log.warning("member.revoked", instance=fallen.instance, reason=fallen.reason, cause=cause)
        try:
            await self._audit.appended(
                "member.revoked",
                instance=fallen.instance,
                cause=cause,
                step=fallen.step,
                reason=fallen.reason,
                policy_id=policy.policy_id,
                policy_version=policy.version,
                policy_digest=policy.digest.hex(),
            )
        except Unavailable as error:
            _log.error("record.unavailable", error=error, lost="member.revoked", instance=fallen.instance)
