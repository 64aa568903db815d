"""The model owner's workshop: models converted, quantised and given their preprocessing, before they are sealed.

Nothing here is part of a mesh, and no worker carries any of it. It runs on the owner's machine, on the owner's files,
and needs what the extras `prepare`, `convert` and `quantize` bring. What is done here is told to nobody: OpenVINO's
converter and NNCF report each use to their makers by way of `openvino_telemetry`, unless they cannot import it.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # which is how Python says "not importable"
