"""The keys that jobs are sealed to, as long as this worker may have them (docs/decisions/0045-epoch-keys.md).

They come with the lease of a model, at its first release and with each renewal, and go with it: when it ends, when it
is refused, and when the worker is revoked, which ends the worker. A job may be sealed to a key that this worker has not
been given yet, as after a new release policy. Then it asks for the lease again at once, and not often: anybody who may
submit jobs can name a key that nobody has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from cloister.kit.log import get_logger
from cloister.seal.hpke import KeyPair
from cloister.worker.job_epochs import unix_ms
from cloister.worker.served import ServedModels

LOOK_S: Final = 15.0
"""How often what is announced is looked through; less than the margin in which a key is not announced any more."""
ASK_AGAIN_S: Final = 60.0
"""For one model."""
ASK_ANY_S: Final = 5.0
"""For all models together: far below what the provisioner lets one worker ask."""
_log = get_logger()


class JobKeys:
    """The keys of all models that this worker serves. Called on the event loop only.

    Args:
        served: Has them, each with its model's lease.
        now: The verifier's time.
        counter_s: The worker's counter.
        renew: Asks for the lease of a model's versions again.
        dropped: Called with the name of each key that is here no longer, for who keeps what was made of it.
    """

    def __init__(
        self,
        served: ServedModels,
        *,
        now: Callable[[], datetime],
        counter_s: Callable[[], float],
        renew: Callable[[str], None],
        dropped: Callable[[bytes], object] = lambda _key_id: None,
    ) -> None:
        self._served = served
        self._now = now
        self._counter_s = counter_s
        self._renew = renew
        self._dropped = dropped
        self._here: frozenset[bytes] = frozenset()
        self._asked_s: dict[str, float] = {}
        self._asked_any_s = float("-inf")

    def pair(self, model_name: str, key_id: bytes) -> KeyPair | None:
        """The key pair of this name, if a lease that goes now brought it, of any version of the model.

        Whether the version that answers may have it is for `JobEpochs.check` to say, once it is known which that is.
        """
        models = self._served.leased(model_name)
        now_ms = unix_ms(self._now()) if models else 0
        for model in models:
            pair = model.job_epochs.find(key_id, now_ms)
            if pair is not None:
                return pair
        if models:
            self._ask(model_name)
        return None

    def look(self) -> None:
        """Drop keys whose time is up, and have gateways hear of others that take their place."""
        now_ms = unix_ms(self._now())
        for model in self._served:
            model.job_epochs.drop_ended(now_ms)
        here = frozenset[bytes]().union(*(model.job_epochs.key_ids for model in self._served))
        gone, self._here = self._here - here, here
        for key_id in gone:
            self._dropped(key_id)
        self._served.tell_news()

    async def looking(self) -> None:
        """Do so again and again, and whenever something else is served, for as long as the worker runs."""
        changed = asyncio.Event()
        with self._served.watching(changed.set):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await changed.wait()
                changed.clear()
                self.look()

    def _ask(self, model_name: str) -> None:
        now_s = self._counter_s()
        asked_s = self._asked_s.get(model_name, float("-inf"))
        if now_s - asked_s < ASK_AGAIN_S or now_s - self._asked_any_s < ASK_ANY_S:
            return
        self._asked_s[model_name] = self._asked_any_s = now_s
        _log.info("epoch.missed", model=model_name)
        self._renew(model_name)
