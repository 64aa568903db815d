"""The limit: OpenVINO with nothing around it, told what to do like a load: `python -m benchmarks.load.in_process`.

Inputs are copied in and outputs are copied out, as every server must. One request in flight is evaluated on the calling
thread. With more, both ways are tried for a moment and the faster one is taken: evaluating one after the other with all
threads, or several at once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import openvino as ov
from benchmarks.load import questions
from benchmarks.load.questions import Arrays
from benchmarks.load.turns import BEGAN, Counted, Turn, say

CONFIG = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
TRIAL_S, TRIALS = 0.5, 3
Loop = Callable[[float], tuple[list[float], float]]


class Engine:
    """One model, compiled for one request at a time and for many."""

    def __init__(self, xml: Path, inputs: list[Arrays]) -> None:
        core = ov.Core()
        self._inputs = inputs
        self._alone = core.compile_model(xml, "CPU", {**CONFIG, "NUM_STREAMS": 1})
        self._many = core.compile_model(xml, "CPU", {**CONFIG, "PERFORMANCE_HINT": "THROUGHPUT"})
        self._request = self._alone.create_infer_request()
        self._chosen: dict[int, Loop] = {}

    def answer(self, number: int) -> Arrays:
        """Evaluate question `number` on this thread."""
        _fill(self._request, self._inputs[number % len(self._inputs)])
        self._request.infer()
        return {port.any_name: self._request.get_tensor(port).data.copy() for port in self._alone.outputs}

    def loop(self, in_flight: int) -> Loop:
        """The faster way with so many requests at once."""
        if in_flight == 1:
            return self._one_by_one
        if in_flight not in self._chosen:
            ways: list[Loop] = [self._one_by_one, lambda seconds: self._at_once(in_flight, seconds)]
            best = {way: max(rate(way(TRIAL_S)) for _ in range(TRIALS)) for way in ways}
            self._chosen[in_flight] = max(ways, key=best.__getitem__)
        return self._chosen[in_flight]

    def _one_by_one(self, seconds: float) -> tuple[list[float], float]:
        took_s: list[float] = []
        began = at = time.perf_counter()
        while at - began < seconds:
            self.answer(len(took_s))
            now = time.perf_counter()
            took_s.append(now - at)
            at = now
        return took_s, at - began

    def _at_once(self, in_flight: int, seconds: float) -> tuple[list[float], float]:
        took_s: list[float] = []
        outputs = range(len(self._many.outputs))
        queue = ov.AsyncInferQueue(self._many, in_flight)

        def completed(request: ov.InferRequest, sent: float) -> None:
            for at in outputs:
                request.get_output_tensor(at).data.copy()
            took_s.append(time.perf_counter() - sent)

        queue.set_callback(completed)
        began = time.perf_counter()
        number = 0
        while time.perf_counter() - began < seconds:
            queue.start_async(self._inputs[number % len(self._inputs)], time.perf_counter())
            number += 1
        counted, elapsed_s = list(took_s), time.perf_counter() - began
        queue.wait_all()
        return counted, elapsed_s


def _fill(request: ov.InferRequest, inputs: Arrays) -> None:
    for name, array in inputs.items():
        tensor = request.get_tensor(name)
        if tuple(tensor.shape) != array.shape:
            tensor.shape = array.shape
        tensor.data[...] = array


def rate(looped: tuple[list[float], float]) -> float:
    """Answers per second."""
    return len(looped[0]) / looped[1]


def turned(engine: Engine, turn: Turn, began: Callable[[], None]) -> Counted:
    """One turn, as `turns.taken`."""
    loop = engine.loop(turn.in_flight)
    loop(turn.warm_up_s)
    began()
    cpu = time.process_time()
    took_s, elapsed_s = loop(turn.seconds)
    return Counted.of(took_s, [], elapsed_s=elapsed_s, cpu_s=time.process_time() - cpu)


def main() -> None:
    """Do what is said, until nothing more is."""
    found = questions.read(Path(sys.argv[2]))
    engine = Engine(Path(sys.argv[1]), found)
    for line in sys.stdin:
        told = json.loads(line)
        if "check" in told:
            for number in range(len(found)):
                questions.save(Path(told["check"]) / f"answers-{number}.npz", engine.answer(number))
            say({"checked": len(found)})
        else:
            say(turned(engine, Turn(**told), lambda: say(BEGAN)).to_dict())


if __name__ == "__main__":
    main()
