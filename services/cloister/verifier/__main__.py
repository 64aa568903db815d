"""`cloister-verifier`: the verifier as a process, under Intel's root and no other."""

from __future__ import annotations

import sys

from cloister.kit.lifecycle import begin, run_service


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    begin("verifier")
    from cloister.verifier.app import serve_genuine
    from cloister.verifier.settings import Settings

    return run_service("verifier", serve_genuine, Settings)


if __name__ == "__main__":
    sys.exit(main())
