"""The same OpenVINO for every peer: imported by each server in its own virtual environment, so it needs only openvino.

Peers are given what was measured to be fastest for them: a model that takes less than `INLINE_S` is evaluated where it
is called, a longer one on as many threads as OpenVINO has streams, or by itself on all of them.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

CONFIG = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
INLINE_S = 200e-6
Arrays = dict[str, Any]


class Engine:
    """One model.

    Args:
        xml: Its file.
        parallel: Whether requests may be evaluated at once; if not, each gets all threads.
    """

    def __init__(self, xml: Path, *, parallel: bool = True) -> None:
        core = ov.Core()
        alone = core.compile_model(xml, "CPU", {**CONFIG, "NUM_STREAMS": 1})
        self.inputs = {
            port.any_name: (port.element_type.to_dtype(), [size.get_max_length() for size in port.partial_shape])
            for port in alone.inputs
        }
        self.outputs = [port.any_name for port in alone.outputs]
        self._idle: queue.LifoQueue[ov.InferRequest] = queue.LifoQueue()
        self._idle.put(alone.create_infer_request())
        self.quick = self._took() < INLINE_S
        streams = 1
        if parallel and not self.quick:
            many = core.compile_model(xml, "CPU", {**CONFIG, "PERFORMANCE_HINT": "THROUGHPUT"})
            streams = int(many.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            self._idle.get()
            for _ in range(streams):
                self._idle.put(many.create_infer_request())
        self._threads = ThreadPoolExecutor(streams)

    def infer(self, inputs: Mapping[str, Any]) -> Arrays:
        """Evaluate on the calling thread."""
        request = self._idle.get()
        try:
            for name, array in inputs.items():
                tensor = request.get_tensor(name)
                if tuple(tensor.shape) != array.shape:
                    tensor.shape = array.shape
                tensor.data[...] = array
            request.infer()
            return {name: request.get_tensor(name).data.copy() for name in self.outputs}
        finally:
            self._idle.put(request)

    async def answer(self, inputs: Mapping[str, Any]) -> Arrays:
        """Evaluate without stopping the event loop for long."""
        if self.quick:
            return self.infer(inputs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.infer, inputs)

    def _took(self) -> float:
        zeros = {name: np.zeros([1, *shape[1:]], dtype) for name, (dtype, shape) in self.inputs.items()}
        took = []
        for _ in range(8):
            began = time.perf_counter()
            self.infer(zeros)
            took.append(time.perf_counter() - began)
        return min(took)  # what else runs on the machine only ever makes it slower
