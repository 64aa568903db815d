"""One job while this process has it."""

from __future__ import annotations

from cloister.errors import Unavailable
from cloister.gateway.call import Call
from cloister.gateway.jobs.job import Claimed
from cloister.gateway.wire import Route


class Held:
    """A job that this process has taken.

    Attributes:
        claimed: As the store gave it last.
        route: What was read of its request.
        tried: Workers that cannot answer it, in this attempt.
        call: While it is on its way to a worker, or with one.
        size_bytes: Of its request, and of its answer once there is one.
    """

    __slots__ = ("call", "claimed", "route", "size_bytes", "tried")

    def __init__(self, claimed: Claimed, route: Route) -> None:
        self.claimed = claimed
        self.route = route
        self.tried: tuple[str, ...] = ()
        self.call: Call | None = None
        self.size_bytes = len(claimed.job.request)


def exhausted_job() -> Unavailable:
    """What a job ends with that was taken too often by processes of which none came to an end with it."""
    return Unavailable(
        "the job was given to workers as often as it may be, and whoever had given it was gone before the end",
        reason="job.attempts_exhausted",
    )
