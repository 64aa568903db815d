"""What the worker's engine adds to OpenVINO, and what sharing evaluations saves, in one process: `make bench-engine`.

For each model three ways of answering the same requests of one row take turns, and only ratios between them count:
OpenVINO in process (one infer request on the calling thread for what is quick, `AsyncInferQueue` for the rest), the
engine with each request alone, and the engine as it is. Answers are compared bit for bit with single evaluations first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from rich.console import Console
from rich.table import Table

from cloister.oip.contents import Array
from cloister.worker.batches import Item
from cloister.worker.engine import OpenVinoEngine

ROUNDS, ROUND_S = 5, 0.4
IN_FLIGHT = (1, 8, 32)


class Speed(NamedTuple):
    """Requests a second, and seconds of CPU for each."""

    rate: float
    cpu_s: float


Answering = Callable[[int], Awaitable[int]]
"""Answers for a while, once at least, with so many requests in flight; returns how many it answered."""


def perceptron(*sizes: int) -> ov.Model:
    """`x` [n, first] in, `y` [n, last] out; random weights."""
    rng = np.random.default_rng(7)
    x = ops.parameter([-1, sizes[0]], np.float32, name="x")
    x.output(0).set_names({"x"})
    value = x
    for before, after in pairwise(sizes):
        weights = ops.constant((rng.standard_normal((before, after)) / before**0.5).astype(np.float32))
        value = ops.relu(ops.matmul(value, weights, transpose_a=False, transpose_b=False))
    value.output(0).set_names({"y"})
    return ov.Model([ops.result(value)], [x], "perceptron")


def convolutions() -> ov.Model:
    """`x` [n, 32, 56, 56] in, `y` [n, 32] out: six 3x3 convolutions, where a batch saves little."""
    rng = np.random.default_rng(7)
    x = ops.parameter([-1, 32, 56, 56], np.float32, name="x")
    x.output(0).set_names({"x"})
    value = x
    for _ in range(6):
        kernel = ops.constant((rng.standard_normal((32, 32, 3, 3)) * 0.06).astype(np.float32))
        value = ops.relu(ops.convolution(value, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    pooled = ops.reduce_mean(value, ops.constant([2, 3]), keep_dims=False)
    pooled.output(0).set_names({"y"})
    return ov.Model([ops.result(pooled)], [x], "convolutions")


def in_process(model: ov.Model, engine: OpenVinoEngine, rows: list[Array]) -> Answering:
    """OpenVINO alone, compiled as the engine's pool is, or on one infer request where the engine is quick."""
    quick = engine.quick(Item({"x": rows[0]}, ("y",)))
    compiled = ov.Core().compile_model(model, "CPU", {**engine.config, **({"NUM_STREAMS": 1} if quick else {})})

    async def inline(_: int) -> int:
        request, done, ends_s = compiled.create_infer_request(), 0, time.perf_counter() + ROUND_S
        tensor = ov.Tensor(ov.Type.f32, list(rows[0].shape))
        request.set_input_tensor(tensor)
        while not done or time.perf_counter() < ends_s:
            tensor.data[...] = rows[done % len(rows)]
            request.infer()
            request.get_output_tensor().data.copy()
            done += 1
        return done

    async def queued(in_flight: int) -> int:
        queue, done, ends_s = ov.AsyncInferQueue(compiled, min(in_flight, 2 * engine.streams)), 0, 0.0
        queue.set_callback(lambda request, _: request.get_output_tensor().data.copy())
        ends_s = time.perf_counter() + ROUND_S
        while not done or time.perf_counter() < ends_s:
            queue.start_async({0: rows[done % len(rows)]})
            done += 1
        queue.wait_all()
        return done

    return inline if quick else queued


def through(engine: OpenVinoEngine, rows: list[Array]) -> Answering:
    """The engine, asked as a link asks it."""
    items = [Item({"x": row}, ("y",)) for row in rows]

    async def frames(in_flight: int) -> int:
        done, ends_s = 0, time.perf_counter() + ROUND_S
        while not done or time.perf_counter() < ends_s:
            done += len(engine.infer_now([Item(item.inputs, item.outputs) for item in items[:in_flight]]))
        return done

    async def tasks(in_flight: int) -> int:
        ends_s = time.perf_counter() + ROUND_S

        async def ask(item: Item) -> int:
            done = 0
            while not done or time.perf_counter() < ends_s:
                await engine.infer(Item(item.inputs, item.outputs))
                done += 1
            return done

        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(item)) for item in items[:in_flight]]
        return sum(task.result() for task in asked)

    return frames if engine.quick(items[0]) else tasks


async def measured(ways: list[Answering], in_flight: int) -> list[Speed]:
    """The median of rounds that take turns."""
    speeds: list[list[Speed]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for way, found in zip(ways, speeds, strict=True):
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            done = await way(in_flight)
            found.append(Speed(done / (time.perf_counter() - began_s), (time.process_time() - began_cpu_s) / done))
    return [Speed(*(median(values) for values in zip(*found, strict=True))) for found in speeds]


async def compare(table: Table, name: str, model: ov.Model) -> None:
    """Add the rows of one model."""
    shape = [1, *(size.get_length() for size in list(model.inputs[0].get_partial_shape())[1:])]
    rng = np.random.default_rng(1)
    rows = [rng.standard_normal(shape).astype(np.float32) for _ in range(max(IN_FLIGHT))]
    alone, shared = OpenVinoEngine(model, most_rows=1), OpenVinoEngine(model)
    await check(alone, shared, rows)
    ways = [in_process(model, shared, rows), through(alone, rows), through(shared, rows)]
    said = f"{name}\n{shared.properties['performance_hint']}, {shared.properties['max_batch_rows']} rows"
    for in_flight in IN_FLIGHT:
        limit, before, after = await measured(ways, in_flight)
        cells = [f"{speed.rate:,.0f} ({speed.cpu_s * 1e6:,.0f} µs)" for speed in (limit, before, after)]
        ratios = [f"{before.rate / limit.rate:.2f}", f"{after.rate / limit.rate:.2f}"]
        table.add_row(said, str(in_flight), *cells, *ratios)
        said = ""
    await alone.close()
    await shared.close()


async def check(alone: OpenVinoEngine, shared: OpenVinoEngine, rows: list[Array]) -> None:
    """Every answer of a shared evaluation has the bits of a single one."""
    items = [Item({"x": row}, ("y",)) for row in rows]
    async with asyncio.TaskGroup() as group:
        found = [group.create_task(shared.infer(item)) for item in items]
    for item, task in zip(items, found, strict=True):
        assert task.result()["y"].tobytes() == (await alone.infer(item))["y"].tobytes()


async def main() -> None:
    """Measure and print."""
    table = Table("model", "in flight", "in process", "engine, alone", "engine", "alone / limit", "engine / limit")
    table.title = "requests/s (CPU of the process for each), medians of rounds that alternate"
    await compare(table, "30-64-32-2", perceptron(30, 64, 32, 2))
    await compare(table, "784-512-512-10", perceptron(784, 512, 512, 10))
    await compare(table, "2048-2048-2048-64", perceptron(2048, 2048, 2048, 64))
    await compare(table, "convolutions", convolutions())
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
