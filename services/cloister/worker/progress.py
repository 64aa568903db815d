"""What becomes of one wanted model, for those who want to know: gateways, and whoever waits for it to be loaded."""

from __future__ import annotations

import asyncio
from typing import Final

from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import CloisterError, EvidenceRejected, KeyRefused
from cloister.kit.log import get_logger
from cloister.rpc.status import reason_of
from cloister.worker.served import Missing, ServedModel, ServedModels
from cloister.worker.settings import WantedModel

REASON_CHARS: Final = 300
LOADING: Final = Missing(ModelState.STATE_LOADING)
_log = get_logger()

Failure = CloisterError | TimeoutError


class Progress:
    """Tells of one wanted model. One version at a time is missing: the wanted one, or a newer one than is served.

    Args:
        wanted: Which.
        served: Where gateways are told of what is missing.
    """

    def __init__(self, wanted: WantedModel, served: ServedModels) -> None:
        self._wanted = wanted
        self._served = served
        self._version = str(wanted.version or "")
        self._asking: list[asyncio.Future[ServedModel]] = []

    async def outcome(self) -> ServedModel:
        """Wait for what the next attempt at loading or renewing comes to.

        Raises:
            CloisterError, TimeoutError: It failed; an older version may be served all the same.
        """
        self._asking.append(asyncio.get_running_loop().create_future())
        return await self._asking[-1]

    def begin(self) -> None:
        """It is being loaded."""
        self._note(str(self._wanted.version or ""), LOADING)

    def succeed(self, model: ServedModel) -> None:
        """It is served, or its lease goes on."""
        self._tell(model)
        if model.version == self._version or not self._version:
            self._note(model.version, None)

    def fail(self, error: Failure) -> None:
        """It is not served; a refusal says no more than that, since the reason is in the provisioner's record."""
        if isinstance(error, KeyRefused | EvidenceRejected):
            _log.warning("key.refused", model=self._wanted.name)
        else:
            _log.warning("model.not_served", model=self._wanted.name, reason=reason_of(error), error=error)
        self._note(str(self._wanted.version or ""), _missing(error))
        self._tell(error)

    def refuse(self, version: str, error: CloisterError) -> None:
        """A newer version is not served; the older one stays."""
        _log.warning("model.refused", model=self._wanted.name, version=version, reason=reason_of(error), error=error)
        self._note(version, _missing(error))
        self._tell(error)

    def end(self) -> None:
        """It is not wanted any more."""
        self._note(self._version, None)

    def _note(self, version: str, missing: Missing | None) -> None:
        if version != self._version:
            self._served.miss(self._wanted.name, self._version, None)
        self._version = version
        self._served.miss(self._wanted.name, version, missing)

    def _tell(self, outcome: ServedModel | Failure) -> None:
        asking, self._asking = self._asking, []
        for answer in asking:
            if answer.done():
                continue
            if isinstance(outcome, ServedModel):
                answer.set_result(outcome)
            else:
                answer.set_exception(outcome)


def _missing(error: Failure) -> Missing:
    if isinstance(error, KeyRefused | EvidenceRejected):
        return Missing(ModelState.STATE_UNAVAILABLE, "key.refused: the provisioner's record says why")
    return Missing(ModelState.STATE_UNAVAILABLE, f"{reason_of(error)}: {error}"[:REASON_CHARS])
