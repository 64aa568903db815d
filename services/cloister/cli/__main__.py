"""`python -m cloister.cli`, and the entry point of the `cloister` command."""

import os
import sys

INTERRUPTED = 130
"""As shells count a process that Ctrl-C has ended."""


def main() -> None:
    """Run the command."""
    # Before gRPC is loaded, which reads it once: its complaints reach us as errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from cloister.cli.app import main as run

        run()
    except KeyboardInterrupt:  # loading takes long enough to be interrupted
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
