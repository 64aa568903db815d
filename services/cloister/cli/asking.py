"""How the commands of data owners connect, and how arrays come from files and go to people and scripts."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.trusted import trusted
from cloister.client import Client
from cloister.contract import ModelContract
from cloister.errors import NotFound
from cloister.oip.contents import Array
from cloister.oip.datatypes import datatype_named

MAX_SHOWN: Final = 64


@asynccontextmanager
async def connected(mesh: Mesh, identity: Path | None, trust: Path | None = None) -> AsyncIterator[Client]:
    """A client of this mesh, as `client/main` unless another identity is named."""
    folder = identity or mesh.identity("client")
    async with Client.connect(mesh.gateway, trust=trusted(trust or mesh.trust), identity=folder) as client:
        yield client


@asynccontextmanager
async def asked_for(model: str, version: str) -> AsyncIterator[None]:
    """Say which model there is not, and what it may be for; a gateway says only that there is no such model."""
    try:
        yield
    except NotFound as error:
        wanted = f"version {version} of '{model}'" if version else f"'{model}'"
        unknown = f"the gateway knows no worker that serves {wanted}"
        said = unknown if error.reason == NotFound.default_reason else str(error)
        raise Stop(
            f"{said} ({error.reason}); is the name right, and has a worker its key? 'cloister status' shows what is "
            "served, 'cloister audit list' why a key was refused"
            + (", 'cloister model routing' the labels" if version and not version.isdecimal() else "")
        ) from error


def read_inputs(path: Path, contract: ModelContract) -> dict[str, Array]:
    """Read a model's inputs.

    Args:
        path: `.npz` with an array for each input, `.npy` for a model with one input, or `.json`: an object with nested
            lists by input name, or an Open Inference Protocol request.
        contract: Gives numbers in JSON their datatype, and a lone array its name.

    Raises:
        Stop: The file is none of these.
    """
    try:
        match path.suffix:
            case ".npz":
                with np.load(path, allow_pickle=False) as archive:
                    return {name: archive[name] for name in archive.files}
            case ".npy":
                return {_only_input(contract): np.load(path, allow_pickle=False)}
            case ".json":
                return _from_json(json.loads(path.read_bytes()), contract)
    except FileNotFoundError as error:
        raise Stop(f"there is no file {path}", ExitCode.USAGE) from error
    except (ValueError, TypeError, KeyError, OverflowError, zipfile.BadZipFile) as error:
        raise Stop(f"{path} does not hold this model's inputs: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise Stop(f"{path} does not hold this model's inputs: its lists are nested too deep") from error
    raise Stop(f"{path} is neither .npz, .npy nor .json", ExitCode.USAGE)


def plain(outputs: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Outputs for JSON, as the Open Inference Protocol writes them over REST.

    JSON has no number for what is not finite: that is the text "NaN", "Infinity" or "-Infinity", which `read_inputs`
    takes too.
    """
    return [{"name": name, "shape": list(array.shape), "data": _values(array)} for name, array in outputs.items()]


def shown(array: Array) -> str:
    """An array on a few lines, for a person."""
    return np.array2string(array, precision=4, suppress_small=True, threshold=MAX_SHOWN)


def _from_json(content: Any, contract: ModelContract) -> dict[str, Array]:
    datatypes = {spec.name: spec.datatype for spec in contract.inputs}
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    tensors = content.get("inputs", content)
    if isinstance(tensors, list) and all(isinstance(tensor, dict) for tensor in tensors):
        return {
            tensor["name"]: _array(tensor["data"], tensor["name"], tensor["datatype"]).reshape(tensor["shape"])
            for tensor in tensors
        }
    if not isinstance(tensors, dict):
        tensors = content  # a model may have an input of that name
    unknown = sorted(tensors.keys() - datatypes.keys())
    if unknown:
        raise ValueError(f"the model has no input '{unknown[0]}'; it has {', '.join(sorted(datatypes))}")
    return {name: _array(values, name, datatypes[name]) for name, values in tensors.items()}


def _array(values: Any, name: str, datatype: str) -> Array:
    return np.asarray(values, dtype=datatype_named(datatype, name).dtype)


def _only_input(contract: ModelContract) -> str:
    if len(contract.inputs) != 1:
        raise ValueError(f"the model has {len(contract.inputs)} inputs; give an .npz with each by name")
    return contract.inputs[0].name


def _values(array: Array) -> list[Any]:
    return [_value(element) for element in array.ravel().tolist()]


def _value(element: Any) -> Any:
    if isinstance(element, bytes):
        return element.decode(errors="backslashreplace")
    if not isinstance(element, float) or math.isfinite(element):
        return element
    return "NaN" if math.isnan(element) else "Infinity" if element > 0 else "-Infinity"
