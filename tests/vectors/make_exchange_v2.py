"""Make `exchange-v2.json`: a request and its answer with padding and named keys, and paddings that are refused.

    PYTHONPATH=tests python -m vectors.make_exchange_v2

The workers, the client and the model are those of `exchange-v1.json`. The same bytes come out each time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cloister.seal import padding
from vectors import world
from vectors.exchange import Asked, Asking, carried_back, good, sealed_plaintext
from vectors.make_exchange_v1 import answered

PATH = world.FOLDER / "exchange-v2.json"
SIZES = (0, 1, 510, 511, 512, 513, 600, 1000, 4096, 100_000, 1 << 20, (1 << 22) - 1, 1 << 22, (60 << 20) + 1)


def _broken(asked: Asked) -> Iterator[tuple[str, bytes]]:
    """Plaintexts of an answer that are not padded as they must be."""
    content = good(world.XWING, asked, 0).SerializeToString()
    padded = padding.pad(content)
    yield "not padded", content
    yield "a zero less", padded[:-1]
    yield "a zero more", padded + b"\0"
    yield "padded to the next length", padded + bytes(padding.padded_bytes(len(padded)) - len(padded))
    yield "no marker", content + bytes(len(padded) - len(content))
    yield "another marker", content + b"\x40" + padded[len(content) + 1 :]
    yield "a byte that is no zero", padded[:-1] + b"\x01"
    yield "nothing but zeros", bytes(512)
    yield "empty", b""


def vectors() -> dict[str, Any]:
    """Return what the file is to hold."""
    asking = Asking(json.loads(PATH.read_text())["openings"] if PATH.exists() else {}, seal_version=2)
    asked = asking.ask(0)
    answer = answered(world.XWING, asked, good(world.XWING, asked, 0))
    broken = [(name, carried_back(sealed_plaintext(world.XWING, asked, raw), asked)) for name, raw in _broken(asked)]
    return {
        "openings": asking.openings,
        "exchanges": [{"id": asked.carried.id, **asked.steps, **answer}],
        "broken_answers": [
            {"name": name, "answer": carried.SerializeToString(deterministic=True).hex()} for name, carried in broken
        ],
        "padded_bytes": [[size, padding.padded_bytes(size)] for size in SIZES],
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
