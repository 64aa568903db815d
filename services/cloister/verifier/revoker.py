"""Revoking: on the record first, then in force, then felt by whoever it names.

Members that a revocation names leave the mesh at once: gateways cut their links, the provisioner refuses them, and they
hear it themselves and end. `expel` is for members which no longer pass, whatever the cause: it names their instances,
for as long as the Attestation Results they hold could still convince somebody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Final

from cloister.errors import InvalidRequest, Overloaded, Unavailable
from cloister.kit.audit import AuditLog
from cloister.kit.log import get_logger
from cloister.kit.revocation import Kind, Name, is_revoked
from cloister.verifier.attested import AttestedWorkers, Member
from cloister.verifier.lift_orders import LiftOrders
from cloister.verifier.revocations import Revocations
from cloister.verifier.rulings import MAX_REASON, Revocation

MEMBERSHIP = timedelta(hours=1)
# As many signatures as an envelope may have, and some air.
MAX_ORDER_BYTES: Final = 32 << 10
_log = get_logger()


class Revoker:
    """Takes trust away, and gives it back.

    Args:
        orders: Says who may give it back.
        now: Aware UTC.
    """

    def __init__(
        self,
        revocations: Revocations,
        attested: AttestedWorkers,
        audit: AuditLog,
        *,
        orders: LiftOrders,
        now: Callable[[], datetime],
    ) -> None:
        self._revocations = revocations
        self._attested = attested
        self._audit = audit
        self._orders = orders
        self._now = now

    async def revoke(self, name: Name, *, reason: str, by: str) -> tuple[int, int]:
        """Revoke one thing; return the number of its record, and how many members went.

        Raises:
            AlreadyExists: It is revoked.
            InvalidRequest: The reason is not printable, or too long.
            Overloaded: There are too many revocations.
            Unavailable: Record or store cannot be written; nothing has changed.
        """
        self._revocations.check_new(name)
        revocation = Revocation(name=name, reason=reason, by=by, revoked_at=self._now())
        sequence = await self._recorded("revocation.made", name, reason, by)
        await self._revocations.add(revocation)
        return sequence, await put_out(self._attested, {name})

    async def lift(self, name: Name, *, reason: str, by: str, order: bytes = b"") -> int:
        """Give trust back; return the number of its record. Members that went attest anew.

        Raises:
            NotAllowed: As many as must have not signed an order for it.
            NotFound: It is not revoked.
            InvalidRequest: The reason is not printable, or it or the order is too long.
            Unavailable: As `revoke`.
        """
        if len(order) > MAX_ORDER_BYTES:
            raise InvalidRequest(f"an order has {MAX_ORDER_BYTES} bytes at most", reason="revocation.invalid")
        Revocation(name=name, reason=reason, by=by, revoked_at=self._now())
        self._orders.check(order, name, self._revocations.held(name).revoked_at)
        sequence = await self._recorded("revocation.lifted", name, reason, by)
        await self._revocations.lift(name, order)
        return sequence

    async def expel(self, member: Member, reason: str, *, by: str) -> None:
        """Put a member out that no longer passes, at once; whoever found that out keeps the record of it.

        Its instance stays revoked for an hour, which no result of its outlives. A worker that starts anew is another
        instance, and is judged as it then is. What cannot be kept past a restart is in the log: the member is out.
        """
        self._attested.revoke(member.instance)
        now = self._now()
        revocation = Revocation(
            name=Name(Kind.INSTANCE, member.instance),
            reason=reason[:MAX_REASON],
            by=by,
            revoked_at=now,
            ends_at=now + MEMBERSHIP,
        )
        try:
            await self._revocations.add(revocation)
        except (Overloaded, Unavailable) as error:
            _log.error("revocation.not_kept", instance=member.instance, error=error)

    async def _recorded(self, event: str, name: Name, reason: str, by: str) -> int:
        return await asyncio.to_thread(
            self._audit.append, event, kind=name.kind.value, value=name.value, why=reason, peer=by
        )


async def put_out(attested: AttestedWorkers, names: Collection[Name]) -> int:
    """Take every member of these names out of the mesh and return how many went; none of them may join meanwhile."""
    going = await asyncio.to_thread(_named, attested.members, names)
    for instance in going:
        if attested.revoke(instance):
            _log.warning("worker.revoked", instance=instance)
    return len(going)


def _named(members: list[Member], names: Collection[Name]) -> list[str]:
    return [each.instance for each in members if is_revoked(each.instance, each.attestation_result, names)]
