"""What the models take, as their workers say, and the check of a plain request before it takes a slot.

A request is held against the version that it would be sent to. Metadata that is missing, or on which the workers of a
version disagree, checks nothing: a worker that says something else than the others could have every good request
refused. The worker checks for itself in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from google.protobuf.message import DecodeError

from cloister.api.oip.inference_pb2 import ModelMetadataResponse
from cloister.api.v1.worker_pb2 import ModelState
from cloister.contract import ModelContract
from cloister.errors import InvalidRequest
from cloister.gateway.headers import check_tensors
from cloister.gateway.wire import Tensors
from cloister.kit.log import get_logger

MAX_REMEMBERED_BYTES: Final = 1024
"""Headers of one request that are remembered as good."""
_log = get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Agreed:
    """What all workers of one version say; None where they do not agree, or say nothing that can be read.

    Compared by identity, which is what makes a remembered request quick to find.
    """

    contract: ModelContract | None


class Contracts:
    """Contracts by model and version.

    Args:
        states: What the workers of a version say of it; empty where nobody serves it.
    """

    def __init__(self, states: Callable[[str, str], Sequence[ModelState]]) -> None:
        self._states = states
        self._agreed: dict[tuple[str, str], Agreed] = {}

    def forget(self) -> None:
        """Look again: what workers serve has changed."""
        self._agreed.clear()

    def check(self, name: str, version: str, tensors: Tensors) -> None:
        """Raise `InvalidRequest` if the tensors of a plain request cannot fit; what nobody serves is not looked at."""
        agreed = self._agreed.get((name, version)) or self._agree(name, version)
        if agreed is None or agreed.contract is None:
            return
        if tensors.raw_sizes and sum(map(len, tensors.inputs + tensors.outputs)) <= MAX_REMEMBERED_BYTES:
            _check_once(agreed, tensors)
        else:  # contents lie in the headers, and are not for keeping
            check_tensors(agreed.contract, tensors)

    def _agree(self, name: str, version: str) -> Agreed | None:
        states = self._states(name, version)
        if not states:
            return None
        said = {contract_of(state.metadata) for state in states}
        if len(said) > 1:
            _log.warning("contract.disputed", model=name, version=version)
        # What is for sealed requests only is the worker's to refuse, in words of its own.
        checked = len(said) == 1 and all(state.allow_plain for state in states)
        agreed = self._agreed[name, version] = Agreed(said.pop() if checked else None)
        return agreed


@lru_cache(maxsize=1024)
def contract_of(metadata: bytes) -> ModelContract | None:
    """The contract in a serialised `ModelMetadataResponse`; None where it states none."""
    try:
        contract = ModelContract.from_metadata(ModelMetadataResponse.FromString(metadata))
    except (DecodeError, InvalidRequest):
        return None
    return contract if contract.outputs else None


@lru_cache(maxsize=4096)  # a client sends the same headers with every request
def _check_once(agreed: Agreed, tensors: Tensors) -> None:
    if agreed.contract is not None:
        check_tensors(agreed.contract, tensors)
