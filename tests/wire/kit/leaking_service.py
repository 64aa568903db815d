"""A service that meets every way in which a program says more than it should; for test_secrecy.py.

Each way quotes MARKER, as an exception quotes a tensor. The last is to die, as the setting `dies` says.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
from google.protobuf import json_format

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.kit import environment, lifecycle, log
from cloister.kit.lifecycle import Lifecycle, begin, run_service

MARKER = "MARKER-OF-A-TENSOR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    dies: str = "waiting"
    log_json: bool = True


class Leaving:
    def __del__(self) -> None:
        raise ValueError(MARKER)


def raising() -> None:
    raise ValueError(MARKER)


def numpy_raising() -> None:
    np.array([MARKER]).astype(np.float32)


def protobuf_raising() -> None:
    json_format.Parse('{"' + MARKER + '": 1}', ModelInferRequest())


def protobuf_refusing() -> None:
    ModelInferRequest(**{MARKER: 1})


def openvino_raising() -> None:
    value = ov.opset15.parameter([1, 8], np.float32, name=MARKER)
    ov.opset15.matmul(value, ov.opset15.constant(np.zeros((3, 3), np.float32), name=MARKER), False, False, name=MARKER)


def reading_a_broken_model() -> None:
    ov.Core().read_model(f"<net name='{MARKER}' version='11'><layers><layer id='{MARKER}'".encode(), b"")


RAISING = (raising, numpy_raising, protobuf_raising, protobuf_refusing, openvino_raising, reading_a_broken_model)


async def failing_task() -> None:
    raising()


def say_natively() -> None:
    for fd in (1, 2):
        os.write(fd, f"{MARKER} by native code\n".encode())
    ctypes.CDLL(None).puts(f"{MARKER} by the C library".encode())
    ctypes.CDLL(None).fflush(None)
    print(MARKER, "by print", flush=True)
    print(MARKER, "by print", file=sys.stderr, flush=True)


async def leak(logger: logging.Logger) -> None:
    quoting = 0
    for fails in RAISING:
        try:
            fails()
        except Exception as error:
            quoting += MARKER in str(error)
            log.get_logger().error("call.broken", error=error, exc_info=error)
            logger.exception("it failed: %s", error)
    assert quoting >= len(RAISING) - 1  # what OpenVINO says of a broken model is its own affair
    thread = threading.Thread(target=raising)
    thread.start()
    thread.join()
    Leaving()
    task = asyncio.get_running_loop().create_task(failing_task())
    await asyncio.wait([task])
    del task
    gc.collect()
    warnings.warn(MARKER, stacklevel=1)
    logger.warning("a tensor: %s", MARKER)
    say_natively()


def dumpable() -> int:
    """As the kernel has it: 0 where there is neither a core file nor a look from outside."""
    return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE


async def die(how: str) -> None:
    if how == "waiting":
        await asyncio.Event().wait()
    if how == "abort":
        os.abort()
    if how == "segfault":
        ctypes.string_at(0)
    if how == "fatal":
        ctypes.pythonapi.Py_FatalError(MARKER.encode())
    raise ValueError(MARKER)


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    await leak(logging.getLogger("a.library"))
    log.get_logger().info("all.leaked", dumpable=dumpable())
    await die(settings.dies)


if __name__ == "__main__":
    begin("worker")
    lifecycle.environment.SETTINGS_FILE = environment.SETTINGS_FILE = Path(sys.argv[2])  # type: ignore[misc]
    sys.exit(run_service("worker", serve, Settings))
