"""One model's jobs on their way to workers, and what follows when their calls have ended.

They go as ordinary calls, in their tenants' names, within a share of the slots that workers grant: the rest is for
requests that come meanwhile. No job has a task; a call that ends calls back. What is to be tried again waits in the
store, not here: whoever submits what nobody can answer takes no room from others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from cloister.errors import CloisterError, NotReady, Overloaded, Unavailable
from cloister.gateway.call import Call
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.jobs.held import Held
from cloister.gateway.jobs.job import expired_job
from cloister.gateway.jobs.metrics import ANSWERED, JobMetrics
from cloister.gateway.jobs.outcomes import UNCOUNTED_S, Next, after, pause_s
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.jobs.settling import Settling
from cloister.gateway.lanes import jittered
from cloister.kit.log import get_logger
from cloister.rpc.status import reason_of, told_as

SLOTS_S: Final = 0.01
"""How long a number of slots is believed."""
OVERLOADED_S: Final = 0.1
_log = get_logger()


class Sending:
    """Sends the jobs of one model.

    Args:
        model_name: Which.
        dispatcher: Finds workers.
        settling: Takes those that have ended, or are to be given back.
        settings: Attempts, and the share of slots.
        metrics: Counts attempts.
        max_call_s: The most that one attempt may take.
        wall_ms: Unix time in milliseconds.
        freed: Called when a call has ended.

    Attributes:
        calls: How many are under way.
        ready: Jobs that wait for a slot.
    """

    def __init__(
        self,
        model_name: str,
        dispatcher: Dispatcher,
        settling: Settling,
        settings: JobsSettings,
        metrics: JobMetrics,
        *,
        max_call_s: float,
        wall_ms: Callable[[], int],
        freed: Callable[[], None],
    ) -> None:
        self.calls = 0
        self.ready: deque[Held] = deque()
        self._model_name = model_name
        self._dispatcher = dispatcher
        self._settling = settling
        self._settings = settings
        self._metrics = metrics
        self._max_call_s = max_call_s
        self._wall_ms = wall_ms
        self._freed = freed
        self._loop = asyncio.get_running_loop()
        self._paused_until_s = self._slots_at_s = 0.0
        self._slots = 0
        self._going = False

    @property
    def most_calls(self) -> int:
        """How many calls jobs may have under way: a share of the slots, one at least where there are some."""
        now_s = self._loop.time()
        if now_s >= self._slots_at_s:
            self._slots_at_s = now_s + SLOTS_S
            self._slots = self._dispatcher.slots_of(self._model_name)
        return max(1, int(self._slots * self._settings.slot_share)) if self._slots else 0

    def send(self) -> None:
        """Send what is ready, as far as there is room; nothing once we are going."""
        most = self.most_calls if not self._going else 0
        while self.ready and self.calls < most and self._loop.time() >= self._paused_until_s:
            held = self.ready.popleft()
            try:
                self._send(held)
            except Exception as error:  # this job fails, not the others
                job = held.claimed.job.job_id.hex()
                _log.error("job.broken", model=self._model_name, job=job, exc_info=error)
                self._again(held, Unavailable("the gateway could not send the job", reason="job.broken"))

    def give_back_ready(self) -> None:
        """Let go what has not been sent."""
        while self.ready:
            self._settling.give_back(self.ready.popleft(), counted=False)

    def leave(self) -> None:
        """Send nothing any more: we are going."""
        self._going = True
        self.give_back_ready()

    def abandon(self, held: Held) -> None:
        """Wait for a worker no longer: whoever takes the job next begins again."""
        call = held.call
        if call is not None and not call.answer.done():
            self._dispatcher.withdraw(call)
            call.answer.cancel()

    def _send(self, held: Held) -> None:
        job = held.claimed.job
        left_s = (job.not_after_ms - self._wall_ms()) / 1000
        if left_s <= 0:
            self._settling.end(held, error=expired_job())
            return
        call = Call(job.request, held.route, job.tenant, min(left_s, self._max_call_s))
        call.once, call.tried = True, held.tried
        try:
            self._dispatcher.submit(call)
        except Overloaded as error:  # its model has a rate, or its queue is full
            if error.reason == "deadline.unreachable":  # of this job alone: the others do not wait for that
                self._settling.give_back(held, counted=False, pause_s=UNCOUNTED_S)
                return
            self.ready.appendleft(held)
            self._pause(error.retry_after_s or jittered(OVERLOADED_S))
        except CloisterError as error:
            self._metrics.attempted(self._model_name, error.reason)
            if held.tried:  # each of its workers has said that it cannot
                self._again(held, NotReady("no worker that is here now can open the job", reason="job.key_unknown"))
            else:
                self._settling.give_back(held, counted=False, pause_s=UNCOUNTED_S)
        else:
            held.call = call
            self.calls += 1
            call.answer.add_done_callback(partial(self._ended, held, call))

    def _ended(self, held: Held, call: Call, answer: asyncio.Future[bytes]) -> None:
        self.calls -= 1
        held.call = None
        if answer.cancelled():
            self._settling.give_back(held, counted=call.left_s > 0)
        elif (raised := answer.exception()) is not None:
            self._failed(held, call, raised)
        else:
            self._metrics.attempted(self._model_name, ANSWERED)
            response = answer.result()
            held.size_bytes += len(response)
            self._settling.end(held, response)
        if self.ready:
            self.send()
        self._freed()

    def _failed(self, held: Held, call: Call, raised: BaseException) -> None:
        error = told_as(raised)
        if isinstance(error, asyncio.CancelledError):
            error = Unavailable("the worker was told that nobody waits", reason="call.cancelled")
        self._metrics.attempted(self._model_name, reason_of(error))
        if isinstance(error, TimeoutError) and self._wall_ms() >= held.claimed.job.not_after_ms:
            self._settling.end(held, error=expired_job())
            return
        match after(error, left=call.left_s > 0):
            case Next.END:
                self._settling.end(held, error=error)
            case Next.ELSEWHERE:
                held.tried += (call.instance,)
                self.ready.appendleft(held)
            case Next.RETURN:
                self._settling.give_back(held, counted=False, pause_s=UNCOUNTED_S)
            case Next.AGAIN:
                self._again(held, error)

    def _again(self, held: Held, error: CloisterError | TimeoutError) -> None:
        """An attempt has failed: another follows after a while, unless it was the last."""
        attempt = held.claimed.attempt
        if attempt >= self._settings.attempts:
            self._settling.end(held, error=error)
        else:
            self._settling.give_back(held, counted=True, pause_s=pause_s(attempt))

    def _pause(self, seconds: float) -> None:
        self._paused_until_s = self._loop.time() + seconds
        self._loop.call_later(seconds, self.send)
