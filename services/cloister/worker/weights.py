"""One copy of a model's weights in the clear: decrypted into memory of OpenVINO's own, and evaluated where they lie.

OpenVINO counts references to a tensor of its own, and to a part of one; Python's memory it would only point to.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import openvino as ov

from cloister.oip.contents import Array
from cloister.seal.model_header import Header

_ALIGNED: Final = 64


class PlainRoom:
    """Memory for the files of one model in the clear, which is overwritten once the model goes (attacks I04)."""

    def __init__(self) -> None:
        self._room: Array | None = None

    def room_for(self, header: Header) -> memoryview:
        """Room for a model's files, the largest of them where constants want to begin; once."""
        before, largest, begin = 0, -1, 0
        for _, size_bytes in header.files:
            if size_bytes > largest:
                largest, begin = size_bytes, before
            before += size_bytes
        room: Array = ov.Tensor(ov.Type.u8, [header.length_bytes + _ALIGNED]).data
        self._room = room
        return room.data[-(room.ctypes.data + begin) % _ALIGNED :][: header.length_bytes]

    def wipe(self) -> None:
        """Overwrite all of it, whoever still refers to it: nothing is evaluated on it any more."""
        if self._room is not None:
            self._room[:] = 0
            self._room = None


def tensor_of(weights: memoryview) -> ov.Tensor:
    """The weights as OpenVINO keeps them for as long as the model lives: where they are, in such a room; or a copy."""
    if not weights:
        return ov.Tensor(ov.Type.u8, [0])
    room, content = weights.obj, np.frombuffer(weights, np.uint8)
    if isinstance(room, np.ndarray) and isinstance(room.base, ov.Tensor):
        begin = content.ctypes.data - room.ctypes.data
        return ov.Tensor(room.base, [begin], [begin + len(content)])
    return ov.Tensor(content)
