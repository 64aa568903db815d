"""Verify who serves a model, and ask it one question.

    python ask.py MESH MODEL RECORDS.npy

What is printed of each worker was judged here, by the folder's trust.json.
"""

import sys

import numpy as np

from cloister import SyncClient

folder, model, records = sys.argv[1:]
with SyncClient.of_mesh(folder) as mesh:
    for worker in mesh.workers(model).believed:
        print(worker.instance, worker.result.mrenclave, worker.appraisal.tcb_status)
    name = mesh.contract(model).inputs[0].name
    answer = mesh.infer(model, {name: np.load(records)})
    print(answer.outputs, "by", answer.worker.instance if answer.worker else "nobody knows whom")
