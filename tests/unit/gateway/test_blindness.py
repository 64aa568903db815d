"""The gateway is blind: what could read a request or open a seal is not even loaded in its process."""

from __future__ import annotations

import os
import subprocess
import sys

FORBIDDEN = ("cloister.seal", "cloister.oip", "cloister.appraisal", "cloister.client", "cloister.worker", "numpy")


def test_nothing_that_reads_tensors_or_opens_seals_is_imported() -> None:
    program = f"""
import cloister.gateway.app, sys
forbidden = {FORBIDDEN!r}
sys.exit(", ".join(name for name in sys.modules if (name + ".").startswith(tuple(f + "." for f in forbidden))) or 0)
"""
    ran = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
