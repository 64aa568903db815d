"""Judge everyone who is attested, and read why keys were refused.

    python auditor.py MESH

Evidence is judged here, by the auditor's own trust bundle; what verifier and provisioner say is only where to look.
"""

import sys
from collections import Counter

from cloister.client import SyncAuditorClient

with SyncAuditorClient.of_mesh(sys.argv[1]) as auditor:
    for worker in auditor.workers():
        if worker.appraisal is None:
            print(worker.instance, "is not believed:", worker.refusal)
        else:
            found = worker.appraisal
            print(worker.instance, found.mrenclave.hex(), found.tcb_status, "simulated" if found.simulated else "")

    refused = Counter(
        (line.content.get("model"), line.content.get("reason"))
        for line in auditor.releases()
        if line.content["event"] == "key.refused"
    )
    for (model, reason), count in refused.items():
        print(f"the key of {model} was refused {count} times: {reason}")
    for model in auditor.models():
        print(f"{model.name}@{model.version} may go to {', '.join(model.policy.mrenclave) or 'nobody'}")
    print(len(auditor.revocations()), "revocations")
