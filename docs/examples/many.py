"""Ask for many records at once, and lose nothing.

    python many.py MESH MODEL RECORDS.npy

The second half is for when some may fail and the others count all the same.
"""

import sys

import numpy as np

from cloister import SyncClient

folder, model, path = sys.argv[1:]
records = np.load(path)

with SyncClient.of_mesh(folder, timeout_s=60) as mesh:
    name = mesh.contract(model).inputs[0].name
    asked = [{name: records[i : i + 1]} for i in range(len(records))]

    answers = mesh.infer_many(model, asked, concurrency=32, progress=lambda done, total: print(f"{done} of {total}"))
    print(len(answers), "answers, in the order of the records")

    asked[0] = {name: records[0].astype(np.float16)}  # which no model here takes
    failed = {}
    for outcome in mesh.infer_each(model, asked, concurrency=32):
        if outcome.error is not None:
            failed[outcome.number] = outcome.error
        elif outcome.number % 100 == 0:
            print(outcome.number, outcome.result().outputs)
    print("to look at again:", failed)
