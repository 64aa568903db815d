"""Sealed models from the host's disk into OpenVINO, in memory all the way (attacks F06, F07, I06).

What is opened from the host's file (`sealed_source`) is verified whole before any of it is looked at. Nothing is
written to a disk.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import openvino as ov

from cloister.seal.keys import Secret
from cloister.seal.manifest import ModelManifest
from cloister.seal.model_file import open_model
from cloister.worker.engine import OpenVinoEngine
from cloister.worker.formats import read_model
from cloister.worker.memory import Room, activation_bytes
from cloister.worker.refusals import refused
from cloister.worker.safety import make_safe
from cloister.worker.sealed_source import SEALED_NAME, sealed_source
from cloister.worker.shapes import MAX_TENSOR_BYTES, largest_bytes
from cloister.worker.tuning import Tunings
from cloister.worker.weights import PlainRoom


def load(
    folder: Path,
    manifest: ModelManifest,
    key: Secret,
    *,
    threads: int,
    parallel: int,
    most_rows: int,
    tunings: Tunings,
    room: Room,
) -> OpenVinoEngine:
    """Open the sealed model that `manifest` names, and make it ready to evaluate. Blocks; run it off the loop.

    Args:
        folder: Holds `<name>/<version>/model.sealed`.
        manifest: As its owner signed it.
        key: The model key.
        threads: For inference; 0 lets OpenVINO choose.
        parallel: At most this many evaluations at a time.
        most_rows: Of different requests in one evaluation.
        tunings: What was found out about models that were loaded before.
        room: What it may take besides what its file says: the activations, once its graph is known.

    Raises:
        NotReady: The file is missing, cannot be read, or is not one that can hold this model; or there is no memory.
        SealBroken: It is not this model, or any byte of it changed.
        InvalidRequest: It holds what the worker does not serve (`model.refused`, `model.operation_unsafe`,
            `model.shape_unbounded`), or this CPU does not compute in its precision (`model.precision_unsupported`).
    """
    path, plain = folder / manifest.name / str(manifest.version) / SEALED_NAME, PlainRoom()
    try:
        began_s = time.perf_counter()
        with sealed_source(path, manifest.size_bytes) as source:
            opened = open_model(
                source,
                key,
                name=manifest.name,
                version=manifest.version,
                digest=manifest.digest,
                max_bytes=manifest.size_bytes,
                buffer=plain.room_for,
            )
        opened_s = time.perf_counter()
        model, weights_bytes = read(opened.files)
        read_s = time.perf_counter()
        room.take(activation_bytes(model, parallel))
        engine = OpenVinoEngine(
            model,
            threads=threads,
            parallel=parallel,
            weights_bytes=weights_bytes,
            most_rows=most_rows,
            precision=manifest.precision,
            tuning=tunings.of(manifest.digest),
            closed=plain.wipe,
        )
        room.take(0)  # whoever wanted it may have been told to stop meanwhile: then nothing of it stays
    except RuntimeError:
        plain.wipe()
        raise refused("OpenVINO cannot compile it") from None
    except BaseException:
        plain.wipe()
        raise
    engine.spent_s = {"open": opened_s - began_s, "read": read_s - opened_s, **engine.spent_s}
    return engine


def read(files: Mapping[str, memoryview]) -> tuple[ov.Model, int]:
    """The model in these files, safe to evaluate, and how many bytes of weights it has.

    Args:
        files: Of one model, by relative name, in a format that `formats` reads.

    Raises:
        InvalidRequest: There is no model here, more than one, or one that is refused (`model.refused`), if only for
            an operation that reaches where or as far as a request says (`model.operation_unsafe`,
            `model.shape_unbounded`).
        NotReady: Its format is read from a folder in memory, and there is none.
    """
    model, size_bytes = read_model(files)
    if list(model.get_variables()):
        raise refused("it keeps state from one request to the next")
    if largest_bytes(model) > MAX_TENSOR_BYTES:
        raise refused("a tensor in it is too large")
    try:
        make_safe(model)
    except RuntimeError:
        raise refused("OpenVINO cannot put bounds on its indices") from None
    return model, size_bytes
