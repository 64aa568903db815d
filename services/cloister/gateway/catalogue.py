"""What workers say they serve: checked, compared and merged. The gateway believes it for routing and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import DecodeError

from cloister.api.oip.inference_pb2 import ModelMetadataResponse
from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import InvalidRequest
from cloister.gateway.routing import NAME, VERSION

MAX_MODELS = 1024
MAX_CALLS_PER_SLOT = 64
MAX_METADATA_BYTES = 1 << 20

Models = Mapping[str, Mapping[str, ModelState]]
"""Name, then version, then state."""

_INLINE = "inline"
MAX_REASON_CHARS = 500


def read_models(states: Iterable[ModelState]) -> tuple[Models, Sequence[ModelState]]:
    """Arrange a worker's list of models.

    Returns:
        Those that it serves, by name and version; and those that it should and does not.

    Raises:
        InvalidRequest: A name or version is not one, is repeated, or there are too many.
    """
    models: dict[str, dict[str, ModelState]] = {}
    missing: dict[tuple[str, str], ModelState] = {}
    for count, state in enumerate(states):
        ready = state.state == ModelState.STATE_READY
        named = VERSION.fullmatch(state.version) or (not state.version and not ready)
        if NAME.fullmatch(state.name) is None or not named:
            raise InvalidRequest("a worker serves a model under a name or version that is not one")
        too_large = max(len(state.metadata), state.manifest.ByteSize(), state.job_epoch.ByteSize()) > MAX_METADATA_BYTES
        known = state.version in models.get(state.name, {}) or (state.name, state.version) in missing
        if known or count >= MAX_MODELS or too_large or len(state.reason) > MAX_REASON_CHARS:
            raise InvalidRequest("a worker's list of models repeats itself or is too large")
        if ready:
            models.setdefault(state.name, {})[state.version] = state
        else:
            missing[state.name, state.version] = state
    return models, tuple(missing.values())


def quick_models(models: Models) -> frozenset[str]:
    """Return the models of which some version is evaluated on the worker's event loop, as its metadata says."""
    return frozenset(name for name, versions in models.items() if any(map(_inline, versions.values())))


def calls_per_slot(models: Models) -> dict[str, int]:
    """Return how many calls of each model one slot holds: as many as those of its slowest version.

    Raises:
        InvalidRequest: A worker says that they are more than could be.
    """
    found = {
        name: min(max(1, state.calls_per_slot) for state in versions.values()) for name, versions in models.items()
    }
    if max(found.values(), default=1) > MAX_CALLS_PER_SLOT:
        raise InvalidRequest("a worker has more calls in a slot than there can be", reason="link.broken")
    return found


def _inline(state: ModelState) -> bool:
    try:
        return ModelMetadataResponse.FromString(state.metadata).properties.get(_INLINE) == "true"
    except DecodeError:
        return False


def default_version(served: Sequence[Iterable[str]]) -> str:
    """The version for clients that name none, unless an operator says otherwise.

    Args:
        served: Versions of one model, for each of its workers.

    Returns:
        The highest that all of them serve, so that a new one takes over once it is ready everywhere; where they have
        none in common, the highest of any; empty if there is none.
    """
    each = [set(versions) for versions in served]
    return max(set.intersection(*each) or set.union(*each), key=int, default="") if each else ""


def merged_metadata(states: Iterable[ModelState], version: str) -> bytes:
    """Answer for one version of a model, with all of its versions that are served anywhere.

    Args:
        states: The model's states from all its workers.
        version: The version whose inputs and outputs are told.

    Returns:
        A serialised `ModelMetadataResponse`; empty when no worker serves that version.
    """
    by_version = {state.version: state for state in states}
    state = by_version.get(version)
    if state is None:
        return b""
    try:
        metadata = ModelMetadataResponse.FromString(state.metadata)
    except DecodeError:
        metadata = ModelMetadataResponse()
    metadata.name = state.name
    metadata.versions[:] = sorted(by_version, key=int)
    return metadata.SerializeToString()
