"""Ask over one stream that stays open, from several tasks.

    python stream.py MESH MODEL RECORDS.npy

It costs the mesh less than a call for each request. Should the gateway restart, another stream is opened.
"""

import asyncio
import sys

import numpy as np

from cloister import Client


async def main(folder: str, model: str, path: str) -> None:
    """Ask for every record at once."""
    records = np.load(path)
    async with Client.of_mesh(folder) as mesh, mesh.stream(timing=True) as streaming:
        name = (await mesh.contract(model)).inputs[0].name

        async def bedside(row: int) -> None:
            answer = await streaming.infer(model, {name: records[row : row + 1]}, timeout_s=5)
            elapsed_ms = 1000 * answer.timing.elapsed_s if answer.timing else 0.0
            print(f"record {row}: {answer.outputs} after {elapsed_ms:.1f} ms")

        async with asyncio.TaskGroup() as group:
            for row in range(len(records)):
                group.create_task(bedside(row))


asyncio.run(main(*sys.argv[1:]))
