"""Keep the proof of an answer, and check it later without asking anybody.

    python receipt.py MESH MODEL RECORDS.npy

The second half needs the receipt and a trust bundle, no network and no identity. The file holds question and answer.
"""

import sys
from pathlib import Path

import numpy as np

from cloister import SyncClient
from cloister.client import TrustBundle, load_receipt, save_receipt, verify_receipt
from cloister.errors import CloisterError

folder, model, records = sys.argv[1:]
kept = Path("answer.receipt")
with SyncClient.of_mesh(folder) as mesh:
    answer = mesh.infer(model, {mesh.contract(model).inputs[0].name: np.load(records)})
assert answer.receipt is not None
save_receipt(answer.receipt, kept)

trust = TrustBundle.read(Path(folder) / "trust.json")
proved = verify_receipt(load_receipt(kept), trust)
print(f"{proved.body.model_name}@{proved.body.model_version} in {proved.result.mrenclave} at {proved.issued_at}")

changed = bytearray(kept.read_bytes())
changed[len(changed) // 2] ^= 1
kept.write_bytes(changed)
try:
    verify_receipt(load_receipt(kept), trust)
except CloisterError as error:
    print("one bit changed:", error.reason)
