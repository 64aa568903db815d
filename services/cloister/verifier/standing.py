"""Whether members still stand: their evidence judged anew, by the policy and the collateral of today.

A member was believed when it joined. When the policy changes, or a refresh of collateral revokes a platform, whoever
would not be believed today goes at once, and not when its result ends. Without collateral to judge by nobody goes: the
fault is ours, and results end by themselves.

Members are judged one by one on threads, so the event loop is held by none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Evidence, Expected, appraise
from cloister.appraisal.policy import Policy
from cloister.errors import EvidenceRejected, NotReady, Unavailable
from cloister.kit.audit import AuditLog
from cloister.kit.log import get_logger
from cloister.verifier.attested import AttestedWorkers, Member
from cloister.verifier.collateral import Endorsements

Endorsed = Callable[[bytes, datetime], Endorsements]
"""The collateral in force for a quote at a time; raises NotReady where there is none. Blocks, on any thread."""

Expel = Callable[[Member, str], Awaitable[object]]
"""Takes a member out because it is not believed any more; the words say why."""

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


def reappraise(member: Member, policy: Policy, endorsed: Endorsed, anchor: TrustAnchor, now: datetime) -> None:
    """Judge a member's evidence as if it came now, but for the challenge, which was used. Blocks for milliseconds.

    Raises:
        EvidenceRejected: It would not be believed.
        NotReady: There is no collateral to judge it by.
    """
    keys = member.keys
    appraise(
        Evidence(raw_quote=member.quote, claims_bytes=member.claims),
        endorsed(member.quote, now).verified,
        policy,
        anchor,
        now,
        expect=Expected(
            instance=member.instance,
            spiffe_id=member.spiffe_id,
            tls_spki_sha256=keys.tls_spki_sha256,
            receipt_key=keys.receipt_key,
            hpke_suite=keys.hpke_suite,
            hpke_public=keys.hpke_public,
        ),
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
        anchor: TrustAnchor,
        expel: Expel,
        audit: AuditLog,
        now: Callable[[], datetime],
    ) -> None:
        self._attested = attested
        self._policy = policy
        self._endorsed = endorsed
        self._anchor = anchor
        self._expel = expel
        self._audit = audit
        self._now = now

    async def review(self, cause: str) -> Review:
        """Judge everyone who is a member now, and revoke who is not believed any more.

        Who joins or renews meanwhile was judged by what is in force, and is left alone.

        Args:
            cause: What changed, for the record: `policy`, `collateral`.
        """
        policy = self._policy()
        stood, unjudged, fallen = 0, 0, []
        for member in self._attested.members:
            try:
                await asyncio.to_thread(reappraise, member, policy, self._endorsed, self._anchor, self._now())
                stood += 1
            except NotReady:
                unjudged += 1
            except EvidenceRejected as objection:
                if self._attested.get(member.instance) is member:
                    fallen.append(Fallen(member.instance, objection.step, objection.reason))
                    await self._expel(member, f"no longer believed since the {cause} changed: {objection.reason}")
                    await self._record(fallen[-1], policy, cause)
        return Review(policy=policy, stood=stood, fallen=tuple(fallen), unjudged=unjudged)

    async def _record(self, fallen: Fallen, policy: Policy, cause: str) -> None:
        """After the fact: what lets somebody in waits for the disk, what keeps one out does not."""
        _log.warning("member.revoked", instance=fallen.instance, reason=fallen.reason, cause=cause)
        try:
            await asyncio.to_thread(
                self._audit.append,
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
