"""Which models this gateway has heard of, and so may have a queue.

Jobs may be submitted before the first worker of a model is back. Anybody could otherwise begin a queue by a made-up
name, each with room of its own in Redis. So a name counts if a worker serves it, or should; if one has since this
process started; if the settings, the routing file or the tenants file speak of it; or if it has a queue already, which
began when it was known.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from cloister.gateway.directory import Directory
from cloister.gateway.fleet import Fleet
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.wire import Route

MAX_REMEMBERED: Final = 4096


class KnownModels:
    """See the module.

    Args:
        fleet: Whom workers serve, and who is said to serve what.
        stores: Which models have queues.
        directory: Which models the tenants file names.
        named: Models of which the settings speak.
    """

    def __init__(self, fleet: Fleet, stores: StoreWatch, directory: Directory, named: Collection[str]) -> None:
        self._fleet = fleet
        self._stores = stores
        self._directory = directory
        self._named = frozenset(named)
        self._seen: set[str] = set()

    def check(self, model: str) -> None:
        """Hold the name of a model against what is known.

        Raises:
            NotFound: There is no such model.
            Unavailable: Not all workers are known yet.
        """
        if model in self._seen:
            return
        if self._fleet.serves(model, "") or any(state.name == model for state in self._fleet.all_states()):
            if len(self._seen) < MAX_REMEMBERED:
                self._seen.add(model)
            return
        spoken_of = (
            model in self._named
            or model in self._stores.queues
            or model in self._fleet.dispatcher.routing.models
            or model in self._directory.models
        )
        if not model or not spoken_of:
            raise self._fleet.missing(Route(model, "", "", None))
