"""One model at this gateway: who waits for it, how many slots it holds, and how long a call takes.

How long a call will wait is estimated from the time that calls held their slots lately (a moving average, the worker's
own queue and the wire included) and from how many slots the model holds now: so many calls end in that time, and each
lets one in (Little's law). On top comes a margin for how much later than estimated calls ended: its mean and four mean
deviations, as TCP allows for a round trip (RFC 6298). In a rush a queue is always as long as the estimate lets it be:
one that is short by a little makes every call late, and workers compute what nobody waits for. One that is long by a
little costs nothing, as long as somebody waits. A tenant's first call in a short queue does without the margin: tenants
take turns only where they wait, and if nobody were let wait, slots would go to whoever asks most often.

The estimate errs where times differ much from call to call, for a while after a worker has come or gone, and where
calls are sealed to a few of the workers only; it knows nothing of calls at other gateways but what they cost in time.
Nothing is refused on its account unless the model's slots are taken and it has been measured.
"""

from __future__ import annotations

import random
from typing import Final

from cloister.errors import Overloaded
from cloister.gateway.bucket import Bucket
from cloister.gateway.call import Call
from cloister.gateway.limits import ModelLimits
from cloister.gateway.queues import FairQueue

NEWEST: Final = 0.05
"""Weight of the newest call in the moving average."""
LATER, OFF, OFFS = 1 / 8, 1 / 4, 4
"""RFC 6298, section 2: weights of the newest call in mean and mean deviation, and how many of these are allowed for."""
LEAST_RETRY_S: Final = 0.02
LONGEST_RETRY_S: Final = 10.0
UNMEASURED_S: Final = 0.1
"""What a call is taken to need until one has been answered; it is for `retry_after_s` only."""


class Lane:
    """What the gateway keeps of one model.

    Attributes:
        limits: From the settings.
        waiting: Calls without a slot.
        at_workers: Slots that its calls hold, cancelled ones included.
        held_s: How long a call holds its slot; 0 until one was answered.
        later_s: By how much calls end later than estimated.
        off_s: By how much they differ in that.
        answer_ratio: How many times as large as its request a large answer was lately.
    """

    __slots__ = ("_bucket", "answer_ratio", "at_workers", "held_s", "later_s", "limits", "off_s", "waiting")

    def __init__(self, limits: ModelLimits) -> None:
        self.limits = limits
        self.waiting = FairQueue(self._late)
        self.at_workers = 0
        self.held_s = 0.0
        self.later_s = self.off_s = 0.0
        self.answer_ratio = 0.0
        self._bucket = Bucket(limits.rate, limits.burst) if limits.rate else None

    @property
    def open(self) -> bool:
        """Whether its calls may take another slot."""
        return not self.limits.slots or self.at_workers < self.limits.slots

    @property
    def idle(self) -> bool:
        """Whether there is nothing of it."""
        return not (self.at_workers or len(self.waiting))

    def ended(self, call: Call, answer: bytes | None, now_s: float) -> None:
        """Learn from a call that has given its slot back; `answer` is the worker's, if there is one."""
        self.at_workers -= 1
        if answer is not None:
            held_s = now_s - call.handed_s
            if not self.held_s:
                self.held_s, self.off_s = held_s, held_s / 2
            self.held_s += (held_s - self.held_s) * NEWEST
            self.answer_ratio = max(len(answer) / len(call.request), self.answer_ratio * (1 - NEWEST))
        if not call.answer.cancelled():
            self._learn(now_s - call.expected_s if call.expected_s else 0.0)

    def check_rate(self, now_s: float) -> None:
        """Count a request.

        Raises:
            Overloaded: The model is asked more often than it may be (`model.too_fast`).
        """
        if self._bucket is not None and (wait_s := self._bucket.take(now_s)):
            raise Overloaded(
                "this model is asked more often than it may be", reason="model.too_fast", retry_after_s=wait_s
            )

    def check_deadline(self, call: Call, now_s: float) -> None:
        """Refuse a call that would have to wait until it is too late.

        Raises:
            Overloaded: It would (`deadline.unreachable`); nothing was done for it, and another gateway may be free.
        """
        if not self.held_s or not self.at_workers:
            return
        wait_s = self.held_s * (self.waiting.ahead_of(call.tenant) + 1) / self.at_workers
        call.expected_s = now_s + wait_s + self.held_s
        late_s = call.expected_s - call.deadline_s
        if self.waiting.has(call.tenant) or len(self.waiting) >= self.at_workers:
            late_s += self._margin_s
        if late_s > 0:
            raise Overloaded(
                "so many wait for this model that the deadline would pass",
                reason="deadline.unreachable",
                retry_after_s=jittered(late_s),
            )

    def make_room(self, tenant: str) -> None:
        """See to it that the queue has room for a call of a tenant; whoever has the most waiting may lose its last.

        Raises:
            Overloaded: The queue is full (`queue.full`).
        """
        if len(self.waiting) < self.limits.queue:
            return
        pushed_out = self.waiting.pushed_out_by(tenant)
        if pushed_out is None:
            raise self._full()
        pushed_out.fail(self._full())

    def retry_after_s(self) -> float:
        """Return when to come again: when half of what waits now will have gone, more or less."""
        each_s = (self.held_s or UNMEASURED_S) / max(1, self.at_workers)
        return jittered(each_s * (1 + len(self.waiting) / 2))

    def _late(self, call: Call, now_s: float) -> None:
        """A call has waited past its deadline: it would have ended later still."""
        call.expire()
        if call.expected_s:
            self._learn(now_s - call.expected_s)

    def _learn(self, later_s: float) -> None:
        """Note by how much a call was late; one that did not have to wait was not."""
        self.off_s += (abs(later_s - self.later_s) - self.off_s) * OFF
        self.later_s += (later_s - self.later_s) * LATER

    @property
    def _margin_s(self) -> float:
        return max(0.0, self.later_s + OFFS * self.off_s)

    def _full(self) -> Overloaded:
        return Overloaded(
            "too many requests wait for this model", reason="queue.full", retry_after_s=self.retry_after_s()
        )


def jittered(seconds: float) -> float:
    """About so long, within bounds; those who are refused together do not come back together."""
    spread = random.uniform(0.75, 1.5)  # noqa: S311 - not a secret
    return min(max(seconds, LEAST_RETRY_S), LONGEST_RETRY_S) * spread
