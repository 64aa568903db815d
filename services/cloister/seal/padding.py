"""Padding: what is sealed is lengthened to one of few lengths, so that its length says little of its content.

The marker byte 0x80, then zeros (ISO/IEC 7816-4, padding method 2), up to the next length of Padmé (Nikitin et al.,
"Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PoPETs 2019, section 4): a length keeps
about as many leading bits as its own length in bits has, and the rest are rounded up. That costs 6 % at most of what is
longer than `LEAST_BYTES`, and far fewer lengths remain than there were: 32 between one MiB and two. Two bounds are
ours. Below `LEAST_BYTES` all is one length, so that short answers and errors look alike; and from four MiB on
lengths are multiples of `LARGEST_STEP_BYTES`, so that a message never outgrows what may travel.

It lies inside the seal, so nobody without the key can change it. Stripping is strict all the same: there is one way to
pad a content, and anything else is refused.
"""

from __future__ import annotations

from typing import Final

from cloister.errors import SealBroken

LEAST_BYTES: Final = 512
LARGEST_STEP_BYTES: Final = 64 << 10

_MARKER: Final = b"\x80"


def padded_bytes(size_bytes: int) -> int:
    """Return how long a content of this length is once it is padded: at least one byte longer."""
    least = max(size_bytes + len(_MARKER), LEAST_BYTES)
    exponent = least.bit_length() - 1
    step = min(1 << exponent - exponent.bit_length(), LARGEST_STEP_BYTES)
    return -(-least // step) * step


def pad(content: bytes) -> bytes:
    """Return `content`, lengthened."""
    zeros = padded_bytes(len(content)) - len(content) - len(_MARKER)
    return b"".join((content, _MARKER, bytes(zeros)))


def strip(padded: bytes) -> bytes:
    """Return the content that `pad` lengthened.

    Raises:
        SealBroken: It is not what `pad` makes of any content.
    """
    end = padded.rfind(_MARKER)
    zeros = len(padded) - end - len(_MARKER)
    if end < 0 or padded_bytes(end) != len(padded) or not padded.endswith(bytes(zeros)):
        raise SealBroken
    return padded[:end]
