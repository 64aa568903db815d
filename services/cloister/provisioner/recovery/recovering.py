"""A provisioner whose root key is lost: owners' shares come in until there are enough, and restore what is kept.

What it reads of the state until then, nobody vouches for. A deal that somebody has put there makes good shares refused,
and lets no secret out: shares that give another key than was dealt open no copy. Each attempt is noted and counted.
Blocking and thread safe: called off the event loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

from google.protobuf.message import DecodeError

from cloister.api.v1 import recovery_pb2 as pb
from cloister.errors import CloisterError, NotReady
from cloister.kit.metrics import Metrics
from cloister.provisioner.ledger.database import Database
from cloister.provisioner.ledger.look import ALTERED, Look
from cloister.provisioner.ledger.tables import RECOVERY_KEY
from cloister.provisioner.ledger.vouched import Vouched
from cloister.provisioner.models.kept_secrets import kept_keys
from cloister.provisioner.recovery.attempts import RecoveryAttempts
from cloister.provisioner.recovery.restoring import Restored, restore
from cloister.provisioner.recovery.session import MOST_REFUSED, RecoverySession, RecoverySessions, ShareRefused
from cloister.provisioner.vaults.keyring import Keyring
from cloister.seal.hpke import XWING, key_id
from cloister.seal.keys import Secret
from cloister.seal.recovery import MAX_SHARES


class Recovering:
    """One recovery.

    Args:
        cluster: The mesh.
        database: The state.
        deal: As it is stored.
        keyring: Wraps under today's root key.
        metrics: Count what is refused.
        monotonic: Tells the time of sessions.
    """

    def __init__(
        self,
        *,
        cluster: str,
        database: Database,
        deal: pb.RecoveryDeal,
        keyring: Keyring,
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._database = database
        self._deal = deal
        self._keyring = keyring
        self._metrics = metrics
        self._monotonic = monotonic
        self._attempts = RecoveryAttempts(database)
        self._sessions = RecoverySessions(deal, cluster, monotonic=monotonic, ended=self._ended)
        self._lock = threading.Lock()

    def state(self) -> pb.GetRecoveryResponse:
        """Who holds shares, and how far it has come."""
        with self._lock, closing(self._database.writing.cursor()) as cursor:
            session = self._sessions.current()
            return pb.GetRecoveryResponse(
                deal=self._deal,
                secrets=len(kept_keys(Look(cursor, Vouched()))),
                root_lost=True,
                session=self._told(session) if session is not None else None,
            )

    def begin(self, by: str) -> pb.RecoverySession:
        """The session that there is, or a new one.

        Args:
            by: SPIFFE id of who asks.

        Raises:
            Overloaded: One ended with too many refusals a moment ago (`recovery.paused`).
        """
        with self._lock:
            session, new = self._sessions.begun()
            if new:
                key = key_id(XWING, session.public).hex()
                self._attempts.add("recovery.begun", by=by, session=session.session_id.hex(), key_id=key)
            return self._told(session)

    def contribute(self, by: str, session_id: bytes, sealed: bytes) -> pb.ContributeShareResponse:
        """Take a share; the last that was missing restores everything.

        Args:
            by: SPIFFE id of who gives it.
            session_id: Which session it is for.
            sealed: The share.

        Raises:
            InvalidRequest, NotReady: See `RecoverySessions.contributed`.
            SealBroken, LogBroken, Unavailable: The state cannot be restored; the session is over.
        """

        def refused(error: ShareRefused) -> None:
            self._metrics.share_refused(error.reason)
            self._attempts.add("recovery.refused", by=by, session=session_id.hex(), reason=error.reason)

        with self._lock:
            session, index, seed = self._sessions.contributed(session_id, sealed, by=by, refused=refused)
            try:
                self._attempts.add("recovery.share_given", by=by, session=session_id.hex(), index=index)
                if seed is None:
                    return pb.ContributeShareResponse(missing=session.missing)
                restored = self._restored(session, seed)
            finally:
                if seed is not None:
                    seed.wipe()
        return pb.ContributeShareResponse(restored=True, secrets=restored.secrets, audit_sequence=restored.sequence)

    def end(self) -> None:
        """Overwrite what there is; the service ends."""
        with self._lock:
            self._sessions.end()

    def _restored(self, session: RecoverySession, seed: Secret) -> Restored:
        try:
            return restore(
                self._database,
                self._keyring,
                seed,
                cluster=self._cluster,
                generation=self._deal.generation,
                session_id=session.session_id.hex(),
                given_by=session.given_by,
            )
        except CloisterError as error:
            self._ended(session.session_id.hex(), error.reason)
            raise

    def _ended(self, session_id: str, reason: str) -> None:
        self._attempts.add("recovery.ended", session=session_id, reason=reason)

    def _told(self, session: RecoverySession) -> pb.RecoverySession:
        left_s = session.ends_s - self._monotonic()
        return pb.RecoverySession(
            session_id=session.session_id,
            public_key=session.public,
            generation=self._deal.generation,
            threshold=self._deal.threshold,
            given=session.given,
            refusals_left=MOST_REFUSED - session.refused,
            ends_at_ms=int((time.time() + left_s) * 1000),
        )


def stored_deal(database: Database) -> pb.RecoveryDeal | None:
    """The dealing as it is stored, vouched for by nobody; None where there is none.

    Raises:
        NotReady: It is no dealing (`store.altered`).
    """
    with closing(database.writing.cursor()) as cursor:
        row = cursor.execute(f"{RECOVERY_KEY.selected} ORDER BY number DESC LIMIT 1").fetchone()
    if row is None:
        return None
    try:
        deal = pb.RecoveryDeal.FromString(row[-1])
    except DecodeError:
        deal = pb.RecoveryDeal()
    if not 1 <= deal.threshold <= len(deal.shares) <= MAX_SHARES:
        raise NotReady("the dealing of the recovery key is not as it was written", reason=ALTERED)
    return deal
