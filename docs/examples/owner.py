"""Seal a model, register it, and say which code may have its key.

    python owner.py MESH NAME MODEL.xml MRENCLAVE

The key goes to the provisioner, sealed models may lie anywhere, and MRENCLAVE comes from a build that you trust. In a
mesh of simulated workers, `simulated=True` lets them have it, and with them whoever runs them.
"""

import sys
from pathlib import Path

from cloister.client import MeshFolder, SyncOwnerClient, seal_to, signing_key

folder, name, xml, mrenclave = sys.argv[1:]
identity = MeshFolder.read(Path(folder)).identity("owner")
files = {"model.xml": Path(xml), "model.bin": Path(xml).with_suffix(".bin")}
sealed = seal_to(Path(f"{name}.sealed"), files, name=name, version=1, signer=signing_key(identity))
print("sealed", sealed.path, sealed.manifest.digest.hex())

with SyncOwnerClient.of_mesh(folder) as provisioner:
    line = provisioner.register(sealed.signed, sealed.key)
    print("registered: line", line, "of the record")
    policy, line = provisioner.allow(name, mrenclave=[mrenclave], simulated=True)
    print("policy", policy.version, "is line", line)
    for entry in provisioner.audit(name):
        print(entry.sequence, entry.content["event"])
