"""What a model takes, as its owner writes it on a command line: names, shapes with open axes, datatypes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cloister.errors import InvalidRequest
from cloister.oip.datatypes import DATATYPES

Array = NDArray[Any]

OPEN: Final = -1
_EXAMPLE_SIZE: Final = 2
_DECLARED: Final = re.compile(r"([^=:\s]{1,128})=([0-9?x]{0,64})(?::([A-Z0-9]{1,8}))?")
_SIZE: Final = re.compile(r"(\?)?([1-9][0-9]{0,8})?")


@dataclass(frozen=True, slots=True)
class Declared:
    """One input.

    Attributes:
        name: By which requests will call it.
        shape: Axes that may have any size are `OPEN`.
        sizes: What to try it with: the shape, with a size in place of each open axis.
        datatype: A word of the Open Inference Protocol, such as `FP32`.
    """

    name: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    datatype: str

    def example(self, generator: np.random.Generator, more_rows: int = 0) -> Array:
        """Numbers of this shape: normally distributed where they are real, 0 and 1 where they are whole.

        Args:
            generator: Where they come from.
            more_rows: Than `sizes` says, where the first axis is open.
        """
        sizes = self.sizes
        if sizes and self.shape[0] == OPEN:
            sizes = (sizes[0] + more_rows, *sizes[1:])
        dtype = np.dtype(DATATYPES[self.datatype].dtype)
        if dtype.kind == "f":
            return generator.standard_normal(sizes).astype(dtype)
        return generator.integers(0, 2, sizes).astype(dtype)


def declared(text: str) -> Declared:
    """Read `NAME=SHAPE` or `NAME=SHAPE:DATATYPE`, such as `image=?x3x224x224` or `tokens=?x?128:INT64`.

    A `?` is an open axis; a number behind it says with which size to try it.

    Raises:
        InvalidRequest: It is not written like that (`shape.malformed`).
    """
    parts = _DECLARED.fullmatch(text)
    sizes = [_SIZE.fullmatch(size) for size in parts[2].split("x")] if parts and parts[2] else []
    datatype = (parts[3] or "FP32") if parts else ""
    if parts is None or not all(size and size[0] for size in sizes):
        raise InvalidRequest(
            f"'{text[:160]}' is not NAME=SHAPE[:DATATYPE], such as image=?x3x224x224 or tokens=?x128:INT64",
            reason="shape.malformed",
        )
    if datatype not in DATATYPES or datatype in ("BYTES", "BF16"):
        raise InvalidRequest(f"'{datatype}' is no datatype of numbers, such as FP32 or INT64", reason="shape.malformed")
    found = [(size[1] is not None, int(size[2] or _EXAMPLE_SIZE)) for size in sizes if size]
    return Declared(
        parts[1],
        tuple(OPEN if is_open else size for is_open, size in found),
        tuple(size for _, size in found),
        datatype,
    )


def all_declared(texts: Sequence[str]) -> tuple[Declared, ...]:
    """Read several; each input is named once.

    Raises:
        InvalidRequest: As `declared`; or one comes twice.
    """
    found = tuple(declared(text) for text in texts)
    names = [each.name for each in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidRequest(f"input '{twice}' is declared twice", reason="shape.malformed")
    return found
