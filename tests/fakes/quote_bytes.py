"""A good quote of the simulated platform as bytes, and the places where attacks change it."""

from __future__ import annotations

import struct

from cloister_simulator.platform import Platform
from fakes.judged import NOW, judged_of, objection
from fakes.sim import simulated_platform

SIM = simulated_platform(NOW)
GOOD = SIM.quote(bytes(range(64)))
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# Offsets in a quote of version 3.
REPORT, LENGTH, SIGNATURE, KEY, QE_REPORT, QE_SIGNATURE, QE_AUTH_LENGTH = 48, 432, 436, 500, 564, 948, 1012
QE_AUTH, KIND, CERTIFICATES = 1014, 1046, 1052
PEM_END = b"-----END CERTIFICATE-----\n"


def patched(offset: int, new: bytes, raw: bytes = GOOD) -> bytes:
    return raw[:offset] + new + raw[offset + len(new) :]


def flipped(offset: int, raw: bytes = GOOD) -> bytes:
    return patched(offset, bytes([raw[offset] ^ 1]), raw)


def refused(raw: bytes, sim: Platform = SIM) -> tuple[int, str]:
    return objection(judged_of(sim, quote=raw))


def chain_of(raw: bytes = GOOD) -> list[bytes]:
    return [block + PEM_END for block in raw[CERTIFICATES:].rstrip(b"\0").split(PEM_END)[:-1]]


def with_chain(chain: bytes, raw: bytes = GOOD) -> bytes:
    """The quote with another certification data, and lengths that fit."""
    inside = raw[SIGNATURE:CERTIFICATES][:-4] + struct.pack("<I", len(chain)) + chain
    return raw[:LENGTH] + struct.pack("<I", len(inside)) + inside


def malleated(raw: bytes = GOOD, at: int = SIGNATURE) -> bytes:
    """The other signature that the same key has for the same bytes."""
    s = int.from_bytes(raw[at + 32 : at + 64], "big")
    return patched(at + 32, (ORDER - s).to_bytes(32, "big"), raw)
