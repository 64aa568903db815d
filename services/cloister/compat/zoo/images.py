"""An image's file or base64 text to the pixels that a model takes.

Cluster Serving sent JPEG, and its servers decoded it with OpenCV: blue, green, red. A model here takes pixels, so they
are decoded on this side, in that order of colours, and laid out as the model's shape says. Nothing is resized: whether
the size fits is the model's to say.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cloister.contract import ANY_SIZE, TensorSpec
from cloister.errors import InvalidRequest, NotFound, NotReady
from cloister.oip.contents import Array

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS: Final = 64 << 20
COLOURS: Final = 3


def pixels_of(value: Mapping[str, object], spec: TensorSpec) -> Array:
    """Pixels, UINT8, [height, width, 3] or [3, height, width] as the model takes them, without a batch axis.

    Args:
        value: `{"path": file}` or `{"b64": text}`.
        spec: The input that it is for.

    Raises:
        InvalidRequest: Not one of the two, no image, one of more pixels than any model takes; or an input that takes no
            image.
        NotFound: There is no such file.
        NotReady: Pillow is not installed.
    """
    first = _colours_first(spec)
    image = _opened(_content(value, spec), spec, upright="path" in value)
    pixels = np.asarray(image.convert("RGB"))[..., ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if first else pixels)


def _colours_first(spec: TensorSpec) -> bool:
    shape = spec.shape or ()
    inner = shape[1:] if len(shape) == COLOURS + 1 else shape
    if len(inner) == COLOURS and (inner[0] == COLOURS) != (inner[-1] == COLOURS):
        return inner[0] == COLOURS
    raise InvalidRequest(
        f"the input '{spec.name}' takes {spec.datatype} {_shown(spec)}, which is no image of three colours, first or "
        "last; give an ndarray",
        reason="image.unsupported",
    )


def _content(value: Mapping[str, object], spec: TensorSpec) -> bytes:
    path, text = value.get("path"), value.get("b64")
    if isinstance(path, (str, Path)) and len(value) == 1:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise NotFound(f"the image of the input '{spec.name}' cannot be read", reason="image.missing") from error
    if isinstance(text, (str, bytes)) and len(value) == 1:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise _no_image(spec, "its text is not base64") from None
    raise _no_image(spec, "give {'path': file} or {'b64': text}")


def _opened(content: bytes, spec: TensorSpec, *, upright: bool) -> Image:
    """The image; a file's is turned as its camera was held, and base64 is not: so did OpenCV there."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError:
        raise NotReady("images need Pillow: pip install 'cloister[zoo]'", reason="pillow.missing") from None
    try:
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise _no_image(spec, f"it has {image.width} x {image.height} pixels")
        image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _no_image(spec, "it cannot be decoded") from error
    return ImageOps.exif_transpose(image) if upright else image


def _no_image(spec: TensorSpec, what: str) -> InvalidRequest:
    return InvalidRequest(f"the image of the input '{spec.name}': {what}", reason="image.malformed")


def _shown(spec: TensorSpec) -> str:
    return str(["any" if each == ANY_SIZE else each for each in spec.shape or ()]).replace("'", "")
