"""Every error Cloister raises on purpose.

A check raises; it never returns False. `reason` is stable (`noun.participle`, lower case) and travels on the wire;
messages are for people, may change, and hold no secret, path or stack. `rpc/status.py` maps classes to gRPC statuses,
both ways.
"""

from __future__ import annotations

from typing import ClassVar


class CloisterError(Exception):
    """Base of all of them. Catch the narrowest class where something can be done.

    Attributes:
        reason: Stable identifier of what went wrong, for programs.
        retryable: Whether the same call may succeed later without anything else changing.
    """

    default_reason: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason if reason is not None else self.default_reason


class InvalidRequest(CloisterError):
    """Bytes do not parse, or a value does not fit what it is meant for."""

    default_reason = "request.invalid"


class SealBroken(CloisterError):
    """Anything wrong while opening something sealed. One class, one message: no oracle."""

    default_reason = "seal.broken"

    def __init__(self, message: str = "the sealed message could not be opened", *, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)


class Unauthenticated(CloisterError):
    """No client certificate, or one that names nobody we know."""

    default_reason = "identity.unknown"


class NotAllowed(CloisterError):
    """A known identity calls what its role may not."""

    default_reason = "role.not_allowed"


class EvidenceRejected(CloisterError):
    """Evidence or an Attestation Result was not believed.

    Attributes:
        step: Number of the check in `appraisal.appraise` that objected; 0 outside an appraisal.
    """

    default_reason = "evidence.rejected"

    def __init__(self, message: str, *, step: int = 0, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.step = step


class KeyRefused(CloisterError):
    """Believed, but not entitled: the model's release policy does not allow it.

    Attributes:
        objections: What each rule that objected demanded and found, for the record of who decides; never sent.
    """

    default_reason = "key.refused"

    def __init__(self, message: str, *, reason: str | None = None, objections: tuple[str, ...] = ()) -> None:
        super().__init__(message, reason=reason)
        self.objections = objections


class LogBroken(CloisterError):
    """A log does not hold together: a line, a proof or a signature of it, or what it says now and what it said."""

    default_reason = "log.broken"


class NotFound(CloisterError):
    """No such model, key, worker or file; also what a caller hears of one that is not theirs."""

    default_reason = "name.unknown"


class AlreadyExists(CloisterError):
    """The name or version is taken."""

    default_reason = "name.taken"


class NotReady(CloisterError):
    """Some state must change first; the message says which."""

    default_reason = "state.not_ready"


class ChallengeExpired(CloisterError):
    """The nonce was used, is too old, or was issued for something else. Begin again from `Challenge`."""

    default_reason = "challenge.expired"


class Overloaded(CloisterError):
    """A bounded queue is full, or a limit is reached; nothing was done. Try again after a while.

    Attributes:
        retry_after_s: When a place is likely, as far as whoever refused could tell; 0 when it could not.
    """

    default_reason = "queue.full"
    retryable = True

    def __init__(self, message: str, *, reason: str | None = None, retry_after_s: float = 0.0) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class Unavailable(CloisterError):
    """The peer is down, unreachable or draining. Try again, with jitter."""

    default_reason = "peer.unavailable"
    retryable = True


class InternalError(CloisterError):
    """Something broke on the other side. The request id in the message finds it in that service's log."""

    default_reason = "internal"
