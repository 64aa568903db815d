"""One recovery session: owners' shares come in, each is checked by itself, and enough of them give the seed.

A session has a key pair of its own, made when it begins, to which shares are sealed, and it ends: with the seed, after
an hour, or after too many shares that were refused. Then shares are overwritten, and the key is dropped, which OpenSSL
overwrites. The deal has a commitment to each share, so a wrong one is refused when it comes, not when all are there.
Thread safe.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives import constant_time

from cloister.api.v1.recovery_pb2 import RecoveryDeal
from cloister.errors import CloisterError, InvalidRequest, NotReady, Overloaded, SealBroken
from cloister.provisioner.recovery.shares import check_words, combined
from cloister.seal.hpke import XWING, KeyPair
from cloister.seal.keys import Secret
from cloister.seal.recovery import SESSION_ID_BYTES, Share, open_contributed

LIFE_S: Final = 3600.0
MOST_REFUSED: Final = 10
PAUSE_S: Final = 600.0
"""How long no session begins after one with too many refusals."""


class ShareRefused(InvalidRequest):
    """What an owner contributed is not a share that helps; `reason` says what is wrong with it."""


class RecoverySession:
    """One session; made by `RecoverySessions`.

    Attributes:
        session_id: 16 random bytes.
        public: The key that shares are sealed to.
        given_by: SPIFFE ids of who gave shares, in the order of their coming.
        refused: How many were not taken.
        ends_s: By the clock that began it.

    Args:
        deal: Whose shares they are.
        cluster: The mesh.
        ends_s: When it ends.
    """

    def __init__(self, deal: RecoveryDeal, cluster: str, ends_s: float) -> None:
        self._deal = deal
        self._cluster = cluster
        self._shares: dict[int, Share] = {}
        self.session_id = secrets.token_bytes(SESSION_ID_BYTES)
        pair = KeyPair.generate(XWING)
        self.public = pair.public
        self._pair: KeyPair | None = pair
        self.given_by: list[str] = []
        self.refused = 0
        self.ends_s = ends_s

    @property
    def given(self) -> list[int]:
        """Indices of the shares that are there, in order."""
        return sorted(self._shares)

    @property
    def missing(self) -> int:
        """How many more it takes."""
        return int(self._deal.threshold) - len(self._shares)

    def take(self, sealed: bytes, by: str) -> int:
        """Take a share, and return its index.

        Args:
            sealed: The share.
            by: Who gives it.

        Raises:
            ShareRefused: It is for another session or altered (`share.unopened`), no share (`share.malformed`), of
                another mesh (`share.of_other_mesh`) or generation (`share.of_other_generation`), not what was dealt
                (`share.wrong`), or there already (`share.given`).
        """
        try:
            share = open_contributed(self._open_pair(), sealed, self.session_id)
        except SealBroken:
            raise ShareRefused("the share is not sealed to this session", reason="share.unopened") from None
        except InvalidRequest as error:
            raise ShareRefused(str(error), reason=error.reason) from None
        try:
            self._check(share)
        except InvalidRequest as error:
            share.words.wipe()
            raise ShareRefused(str(error), reason=error.reason) from None
        self._shares[share.index] = share
        self.given_by.append(by)
        return share.index

    def seed(self) -> Secret:
        """The seed that the shares give.

        Raises:
            InvalidRequest: They give another one (`share.other`): the deal that is stored is not theirs.
        """
        seed = combined([share.words for share in self._shares.values()])
        pair = KeyPair.from_seed(XWING, seed.view)
        if not constant_time.bytes_eq(pair.public, self._deal.public_key):
            seed.wipe()
            raise InvalidRequest("the shares give another recovery key than was dealt", reason="share.other")
        return seed

    def wipe(self) -> None:
        """Overwrite what was contributed, and let go of the session's key, which OpenSSL overwrites then."""
        for share in self._shares.values():
            share.words.wipe()
        self._shares.clear()
        self._pair = None

    def _open_pair(self) -> KeyPair:
        if self._pair is None:
            raise SealBroken
        return self._pair

    def _check(self, share: Share) -> None:
        if share.cluster != self._cluster:
            raise InvalidRequest("the share is of another mesh's recovery key", reason="share.of_other_mesh")
        if share.generation != self._deal.generation:
            raise InvalidRequest(
                f"the share is of generation {share.generation}, and generation {self._deal.generation} is in force",
                reason="share.of_other_generation",
            )
        check_words(share.words)
        dealt = self._deal.shares[share.index].commitment if share.index < len(self._deal.shares) else b""
        if not constant_time.bytes_eq(dealt, share.commitment()):
            raise InvalidRequest("this share was never dealt", reason="share.wrong")
        if share.index in self._shares:
            raise InvalidRequest("this share is there already", reason="share.given")


class RecoverySessions:
    """The one session that there can be at a time.

    Args:
        deal: Whose shares it takes.
        cluster: The mesh.
        monotonic: Tells the time.
        ended: Told why, when a session ends without the seed.
    """

    def __init__(
        self, deal: RecoveryDeal, cluster: str, *, monotonic: Callable[[], float], ended: Callable[[str, str], None]
    ) -> None:
        self._deal = deal
        self._cluster = cluster
        self._monotonic = monotonic
        self._ended = ended
        self._session: RecoverySession | None = None
        self._paused_until_s = 0.0
        self._lock = threading.Lock()

    def begun(self) -> tuple[RecoverySession, bool]:
        """The session that there is, or a new one; and whether it is new.

        Raises:
            Overloaded: One ended a moment ago with too many refusals (`recovery.paused`).
        """
        with self._lock:
            session = self._current()
            if session is not None:
                return session, False
            left_s = self._paused_until_s - self._monotonic()
            if left_s > 0:
                raise Overloaded(
                    f"too many shares were refused; another session can begin in {left_s:.0f} s",
                    reason="recovery.paused",
                    retry_after_s=left_s,
                )
            self._session = RecoverySession(self._deal, self._cluster, self._monotonic() + LIFE_S)
            return self._session, True

    def current(self) -> RecoverySession | None:
        """The session that there is."""
        with self._lock:
            return self._current()

    def contributed(
        self, session_id: bytes, sealed: bytes, *, by: str, refused: Callable[[ShareRefused], None]
    ) -> tuple[RecoverySession, int, Secret | None]:
        """Take a share; with the last that was missing, the seed comes back and the session is over.

        Args:
            session_id: Which session it is for.
            sealed: The share.
            by: Who gives it.
            refused: Told of a share that was not taken, before it is raised.

        Returns:
            The session, the index of the share, and the seed if there is one.

        Raises:
            NotReady: There is no such session (`recovery.no_session`).
            ShareRefused: See `RecoverySession.take`; the session ends with the last refusal that it may have.
            InvalidRequest: See `RecoverySession.seed`.
        """
        with self._lock:
            session = self._current()
            if session is None or session.session_id != session_id:
                raise NotReady("there is no such recovery session; begin another", reason="recovery.no_session")
            try:
                index = session.take(sealed, by)
            except ShareRefused as error:
                session.refused += 1
                refused(error)
                if session.refused >= MOST_REFUSED:
                    self._paused_until_s = self._monotonic() + PAUSE_S
                    self._end("recovery.too_many_refused")
                raise
            if session.missing:
                return session, index, None
            try:
                return session, index, session.seed()
            except CloisterError as error:
                self._end(error.reason)
                raise
            finally:
                session.wipe()
                self._session = None

    def end(self) -> None:
        """Overwrite what there is; the service ends."""
        with self._lock:
            if self._session is not None:
                self._end("service.stopping")

    def _current(self) -> RecoverySession | None:
        if self._session is not None and self._monotonic() >= self._session.ends_s:
            self._end("recovery.out_of_time")
        return self._session

    def _end(self, reason: str) -> None:
        if self._session is not None:
            session_id = self._session.session_id.hex()
            self._session.wipe()
            self._session = None
            self._ended(session_id, reason)
