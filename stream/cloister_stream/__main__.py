"""`cloister-stream` and `python -m cloister_stream`."""

from __future__ import annotations

from cloister_stream.cli import main

if __name__ == "__main__":
    main()
