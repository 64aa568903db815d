"""`cloister-worker`: the worker as a process, with the quotes of the enclave or trust domain that it runs in."""

from __future__ import annotations

import sys

from cloister.kit.lifecycle import begin, run_service


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    begin("worker")
    from cloister.worker.app import serve_genuine
    from cloister.worker.settings import Settings

    return run_service("worker", serve_genuine, Settings, in_enclave=True)


if __name__ == "__main__":
    sys.exit(main())
