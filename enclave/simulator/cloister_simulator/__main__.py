"""`cloister-simulator` and `python -m cloister_simulator`."""

from __future__ import annotations

from cloister_simulator.cli import main

if __name__ == "__main__":
    main()
