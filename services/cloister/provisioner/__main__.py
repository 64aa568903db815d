"""`cloister-provisioner`: the key provisioner as a process."""

from __future__ import annotations

import sys

from cloister.kit.lifecycle import begin, run_service


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    begin("provisioner")
    from cloister.provisioner.app import serve
    from cloister.provisioner.settings import Settings

    return run_service("provisioner", serve, Settings)


if __name__ == "__main__":
    sys.exit(main())
