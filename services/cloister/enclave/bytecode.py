"""Compiles Python's source: run by the enclaves' own interpreter, it takes files from stdin and leaves `.pyc` files.

    python3.11 -I -S -B bytecode.py <FILES

FILES is a marshalled list of (source, target, name): the name is what tracebacks call the file. What is written depends
on the source and the name alone. It is marked as checked against no source (PEP 552): there is none in an enclave,
where files have no times either.
"""

from __future__ import annotations

import marshal
import sys
from importlib.util import MAGIC_NUMBER, source_hash

_BY_HASH_AND_UNCHECKED = (1).to_bytes(4, "little")


def main() -> None:
    """Compile all of them."""
    for source, target, name in marshal.load(sys.stdin.buffer):
        with open(source, "rb") as file:
            text = file.read()
        code = compile(text, name, "exec", dont_inherit=True, optimize=0)
        with open(target, "wb") as file:
            file.write(MAGIC_NUMBER + _BY_HASH_AND_UNCHECKED + source_hash(text) + marshal.dumps(code))


if __name__ == "__main__":
    main()
