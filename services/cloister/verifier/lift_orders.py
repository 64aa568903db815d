"""Who may give trust back: an operator alone, or with an order that k of n people have signed (attacks J14).

Taking trust away is quick and one operator does it. Where the settings name signers, giving it back needs as many of
them as they say. An order names one revocation by the time it was made, so it lifts no later one of the same thing.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from cloister import dsse
from cloister.errors import InvalidRequest, NotAllowed
from cloister.kit.revocation import ORDER_TYPE, Name, lift_order
from cloister.verifier.settings import Settings


class LiftOrders:
    """Checks orders.

    Args:
        cluster: Trust domain.
        signers: Ed25519 public keys in hex; where there are none, nobody must sign.
        threshold: How many must.
    """

    def __init__(self, cluster: str, signers: Collection[str] = (), threshold: int = 1) -> None:
        self._cluster = cluster
        self._signers = frozenset(signers)
        self._threshold = threshold

    def check(self, order: bytes, name: Name, revoked_at: datetime) -> None:
        """Check that the lifting of a revocation was ordered by as many as must.

        Raises:
            NotAllowed: It was not (`revocation.lift_unsigned`).
        """
        if not self._signers:
            return
        wanted = lift_order(self._cluster, name, milliseconds(revoked_at))
        try:
            said = dsse.verified(order, ORDER_TYPE, self._signers, threshold=self._threshold)
        except InvalidRequest as error:
            raise NotAllowed(
                f"a lift needs an order signed by {self._threshold} of {len(self._signers)} keys: {error}; "
                "'cloister revoke order' makes and signs one",
                reason="revocation.lift_unsigned",
            ) from error
        if said != wanted:
            raise NotAllowed("the order is for another revocation", reason="revocation.lift_unsigned")


def lift_orders(settings: Settings) -> LiftOrders:
    """Who may have a revocation lifted: those named for it, or else those who sign policies."""
    if settings.lift_signers:
        return LiftOrders(settings.cluster, settings.lift_signers, settings.lift_threshold)
    return LiftOrders(settings.cluster, settings.policy_signers, settings.policy_threshold)


def milliseconds(moment: datetime) -> int:
    """Unix time, as it goes over the wire and into orders."""
    return int(moment.timestamp() * 1000)
