"""`cloister-gateway`: the gateway as a process."""

from __future__ import annotations

import sys

from cloister.kit.lifecycle import begin, run_service


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    begin("gateway")
    from cloister.gateway.app import serve
    from cloister.gateway.settings import Settings

    return run_service("gateway", serve, Settings)


if __name__ == "__main__":
    sys.exit(main())
