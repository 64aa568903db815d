"""Prints what the worker's engine answers to each model beside this file: name, and digest of all outputs, a line each.

Runs in an enclave, with nothing but what an enclave of the worker carries, and outside.
"""

import asyncio
import hashlib
import json
from pathlib import Path

import numpy as np

from cloister.worker import models
from cloister.worker.batches import Item
from cloister.worker.engine import OpenVinoEngine

ASKED = "asked.json"
"""Inputs as [datatype, shape, bytes in hex], and names of outputs: an enclave has nothing to read .npz with."""


async def digest_of(folder):
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ASKED]
    engine = OpenVinoEngine(
        models.read({path.relative_to(folder).as_posix(): memoryview(path.read_bytes()) for path in paths})[0]
    )
    asked = json.loads((folder / ASKED).read_text())
    inputs = {
        name: np.frombuffer(bytes.fromhex(content), datatype).reshape(shape)
        for name, (datatype, shape, content) in asked["inputs"].items()
    }
    item = Item(inputs, tuple(asked["outputs"]))
    found = engine.infer_now([item])[0] if engine.quick(item) else await engine.infer(item)
    await engine.close()
    answers = b"".join(name.encode() + np.array(found[name]).tobytes() for name in sorted(found))
    return hashlib.sha256(answers).hexdigest()


async def main():
    for path in sorted(Path(__file__).parent.glob(f"*/{ASKED}")):
        print(path.parent.name, await digest_of(path.parent), flush=True)


asyncio.run(main())
