"""What workers say they serve: checked, compared and merged. The gateway believes it for routing and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import DecodeError

from cloister.api.oip.inference_pb2 import ModelMetadataResponse
from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import InvalidRequest

MAX_MODELS = 1024
MAX_METADATA_BYTES = 1 << 20

Models = Mapping[str, Mapping[str, ModelState]]
"""Name, then version, then state."""

_NAME = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,62}")
_VERSION = re.compile(r"[1-9][0-9]{0,9}")


def read_models(states: Iterable[ModelState]) -> Models:
    """Arrange a worker's list of models by name and version.

    Raises:
        InvalidRequest: A name or version is not one, is repeated, or there are too many.
    """
    models: dict[str, dict[str, ModelState]] = {}
    for count, state in enumerate(states):
        versions = models.setdefault(state.name, {})
        if _NAME.fullmatch(state.name) is None or _VERSION.fullmatch(state.version) is None:
            raise InvalidRequest("a worker serves a model under a name or version that is not one")
        too_large = max(len(state.metadata), state.manifest.ByteSize()) > MAX_METADATA_BYTES
        if state.version in versions or count >= MAX_MODELS or too_large:
            raise InvalidRequest("a worker's list of models repeats itself or is too large")
        versions[state.version] = state
    return models


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
