"""Where policies are applied: one after the other, each with all that follows from it.

An applied policy is in the record and on disk before it is in force, and then every member is judged by it. That does
not end with the call that asked for it: an operator whose connection breaks leaves nothing half done. A policy that is
refused is in the record as well, and changes nothing; where the disk fails in between, `policy.refused` follows
`policy.applied`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from cloister.appraisal.policy_document import PolicyDocument
from cloister.errors import CloisterError, Overloaded
from cloister.kit.audit import AuditLog
from cloister.kit.log import get_logger
from cloister.verifier.policy_in_force import PolicyInForce
from cloister.verifier.standing import Review, Standing

MAX_WAITING: Final = 4

_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Proposal:
    raw: bytes
    peer: str
    answer: asyncio.Future[Review]


class PolicyDesk:
    """Applies policies.

    Args:
        in_force: What is replaced.
        standing: Judges the members by it.
        audit: The record.
    """

    def __init__(self, in_force: PolicyInForce, standing: Standing, audit: AuditLog) -> None:
        self._in_force = in_force
        self._standing = standing
        self._audit = audit
        self._proposals: asyncio.Queue[_Proposal] = asyncio.Queue(MAX_WAITING)

    async def apply(self, raw: bytes, peer: str) -> Review:
        """Put a policy in force, and judge the members by it.

        Args:
            raw: TOML or an envelope.
            peer: Who asks.

        Raises:
            InvalidRequest, AlreadyExists, NotReady: It may not be in force; the old one is. As `PolicyInForce.check`.
            Overloaded: Others are being applied.
            Unavailable: The record or the state cannot be written; the old one is in force.
        """
        proposal = _Proposal(raw, peer, asyncio.get_running_loop().create_future())
        try:
            self._proposals.put_nowait(proposal)
        except asyncio.QueueFull:
            full = Overloaded("other policies are being applied", reason="policies.waiting")
            await asyncio.to_thread(self._refused, peer, full)
            raise full from None
        return await proposal.answer

    async def running(self) -> None:
        """Apply what is proposed, for as long as the service runs.

        Whoever was a member before this process began may have been judged by another policy, and is judged anew.
        """
        await self._standing.review("policy")
        while True:
            proposal = await self._proposals.get()
            try:
                review = await self._applied(proposal)
            except CloisterError as error:
                if not proposal.answer.cancelled():
                    proposal.answer.set_exception(error)
            else:
                if not proposal.answer.cancelled():
                    proposal.answer.set_result(review)

    async def _applied(self, proposal: _Proposal) -> Review:
        await asyncio.to_thread(self._put, proposal)
        return await self._standing.review("policy")

    def _put(self, proposal: _Proposal) -> None:
        """The whole change but for its members, in one step that nobody can interrupt; blocks."""
        try:
            document = self._in_force.check(proposal.raw)
            self._record(document, proposal.peer)
            self._in_force.put(document)
        except CloisterError as objection:
            self._refused(proposal.peer, objection)
            raise
        policy = document.policy
        _log.info("policy.applied", policy_id=policy.policy_id, version=policy.version, peer=proposal.peer)

    def _refused(self, peer: str, objection: CloisterError) -> None:
        _log.warning("policy.refused", peer=peer, reason=objection.reason)
        self._audit.append("policy.refused", peer=peer, reason=objection.reason)

    def _record(self, document: PolicyDocument, peer: str) -> None:
        policy, replaced = document.policy, self._in_force.current()
        self._audit.append(
            "policy.applied",
            peer=peer,
            policy_id=policy.policy_id,
            policy_version=policy.version,
            policy_digest=policy.digest.hex(),
            signers=self._in_force.signed_by(document),
            replaced_version=replaced.version,
            replaced_digest=replaced.digest.hex(),
        )
