"""What the gateway spends on reading a plain request and holding it against its model: `make bench-contract`.

All take turns, and the least of many turns counts, because what else a machine does only ever adds to it. The first
check is of headers that have not been seen before; again is of those that have.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1.worker_pb2 import ModelState
from cloister.contract import ModelContract, TensorSpec
from cloister.gateway.contract import Contracts
from cloister.gateway.headers import check_tensors
from cloister.gateway.wire import read_request
from cloister.oip.tensors import encode_request

TURNS, RUNS = 40, 500


def typed(request: ModelInferRequest) -> ModelInferRequest:
    """The same request with typed contents."""
    tensor, raw = request.inputs[0], request.raw_input_contents[0]
    tensor.contents.fp32_contents.extend(np.frombuffer(raw, np.float32).tolist())
    del request.raw_input_contents[:]
    return request


def least_us(*candidates: Callable[[], object]) -> list[float]:
    """Microseconds of each, which take turns."""
    found = [float("inf")] * len(candidates)
    for _ in range(TURNS):
        for at, candidate in enumerate(candidates):
            began_s = time.perf_counter()
            for _ in range(RUNS):
                candidate()
            found[at] = min(found[at], (time.perf_counter() - began_s) / RUNS * 1e6)
    return found


def measured(request: ModelInferRequest) -> tuple[float, float, float]:
    """Microseconds to read a request, to check it the first time, and to check it again."""
    raw = request.SerializeToString()
    specs = tuple(TensorSpec(each.name, each.datatype, (-1, *each.shape[1:])) for each in request.inputs)
    contract = ModelContract(specs, (TensorSpec("y", "FP32", (-1, 2)),))
    metadata = contract.metadata("m", "1", "openvino").SerializeToString()
    state = ModelState(name="m", version="1", allow_plain=True, metadata=metadata)
    contracts = Contracts(lambda _name, _version: [state])
    tensors = read_request(raw)[1]
    read_us, first_us, again_us = least_us(
        lambda: read_request(raw),
        lambda: check_tensors(contract, tensors),
        lambda: contracts.check("m", "1", tensors),
    )
    return read_us, first_us, again_us


def main() -> None:
    """Measure and print."""
    tiny, image = np.zeros((1, 30), np.float32), np.zeros((1, 3, 224, 224), np.float32)
    table = Table("request", "read, µs", "first check, µs", "again, µs")
    for name, request in (
        ("30 numbers", encode_request("m", {"x": tiny}, id="r-1", outputs=("y",))),
        ("600 KB", encode_request("m", {"x": image}, id="r-1", outputs=("y",))),
        ("8 inputs", encode_request("m", {f"x{at}": tiny for at in range(8)}, id="r-1", outputs=("y",))),
        ("600 KB, typed", typed(encode_request("m", {"x": image}, id="r-1", outputs=("y",)))),
    ):
        table.add_row(name, *(f"{value:.1f}" for value in measured(request)))
    Console().print(table)


if __name__ == "__main__":
    main()
