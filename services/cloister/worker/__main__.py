"""`cloister-worker`: the worker as a process, with Gramine's quoter and no other."""

from __future__ import annotations

import sys
from functools import partial

from cloister.kit.lifecycle import begin, run_service


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    begin("worker")
    from cloister.evidence.gramine import GramineQuoter
    from cloister.worker.app import serve
    from cloister.worker.settings import Settings

    return run_service("worker", partial(serve, quoter=GramineQuoter()), Settings, in_enclave=True)


if __name__ == "__main__":
    sys.exit(main())
