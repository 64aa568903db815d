"""`python -m cloister.cli`, and the entry point of the `cloister` command."""

import os


def main() -> None:
    """Run the command."""
    # Before gRPC is loaded, which reads it once: its complaints reach us as errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from cloister.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
