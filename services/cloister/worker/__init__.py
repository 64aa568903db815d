"""The Attester that infers: what runs inside the enclave, and nothing that need not.

It tells nobody that it runs. OpenVINO, when it is imported, writes an id into the home folder and reports the use to
its makers by way of `openvino_telemetry`, in a process of its own, unless it cannot import that.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # which is how Python says "not importable"
