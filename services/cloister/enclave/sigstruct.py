"""SIGSTRUCT, the signer's word about an enclave (Intel SDM Vol. 3D, 38.13): 1808 bytes, little-endian.

The signer signs header and body, 256 bytes; key, signature and the two quotients that spare the processor a division
lie between and after them. MRSIGNER, which quotes carry, is the digest of the key.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass, field, replace
from enum import IntFlag
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from cloister.errors import InvalidRequest

EXPONENT: Final = 3
KEY_BYTES: Final = 384

# Reserved bytes are written as `x`: they must be zero, and are when packed.
_LAYOUT: Final = struct.Struct("<16sII16sI84x384sI384sIIBB2x16s16s16s32s16x16sHH12x384s384s")
_BODY_AT: Final = 900
_SIGNED_BYTES: Final = 128  # of the header, and of the body
_HEADER: Final = bytes.fromhex("06000000e10000000000010000000000")
_HEADER_2: Final = bytes.fromhex("01010000600000006000000001000000")
_NONE: Final = bytes(KEY_BYTES)


class Attributes(IntFlag):
    """Flags of SECS.ATTRIBUTES (38.7.1) that decide who may look into an enclave or has keys of the platform."""

    DEBUG = 1 << 1
    PROVISION_KEY = 1 << 4
    EINITTOKEN_KEY = 1 << 5


_UNWANTED: Final = Attributes.DEBUG | Attributes.PROVISION_KEY | Attributes.EINITTOKEN_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigstruct:
    """The fields, in their order and by the SDM's names; big numbers as they lie there, 384 bytes little-endian."""

    header: bytes = _HEADER
    vendor: int = 0
    date: int = 0
    header2: bytes = _HEADER_2
    swdefined: int = 0
    modulus: bytes = field(default=_NONE, repr=False)
    exponent: int = EXPONENT
    signature: bytes = field(default=_NONE, repr=False)
    miscselect: int = 0
    miscmask: int = 0xFFFFFFFF
    cet_attributes: int = 0
    cet_attributes_mask: int = 0
    isvfamilyid: bytes = bytes(16)
    attributes: bytes
    attributemask: bytes
    enclavehash: bytes
    isvextprodid: bytes = bytes(16)
    isvprodid: int
    isvsvn: int
    q1: bytes = field(default=_NONE, repr=False)
    q2: bytes = field(default=_NONE, repr=False)

    @classmethod
    def parse(cls, raw: bytes) -> Sigstruct:
        """Read one, signed or not.

        Raises:
            InvalidRequest: Reason `sigstruct.malformed`.
        """
        if len(raw) != _LAYOUT.size:
            raise _malformed(f"it has {len(raw)} bytes, and a SIGSTRUCT has {_LAYOUT.size}")
        found = cls(**dict(zip(cls.__dataclass_fields__, _LAYOUT.unpack(raw), strict=True)))
        if (found.header, found.header2) != (_HEADER, _HEADER_2):
            raise _malformed("it does not begin as a SIGSTRUCT does")
        if found.encode() != raw:
            raise _malformed("reserved bytes are not zero")
        if found.exponent != EXPONENT:
            raise _malformed("the exponent of its key is not 3")
        return found

    def encode(self) -> bytes:
        """The 1808 bytes."""
        return _LAYOUT.pack(*astuple(self))

    @property
    def to_sign(self) -> bytes:
        """What a signer signs, 256 bytes: header and body."""
        raw = self.encode()
        return raw[:_SIGNED_BYTES] + raw[_BODY_AT : _BODY_AT + _SIGNED_BYTES]

    @property
    def signed(self) -> bool:
        """Whether there is a signature; whether it holds is `verify`'s to say."""
        return any(self.signature)

    @property
    def mrsigner(self) -> bytes:
        """Digest of the key, 32 bytes."""
        return sha256(self.modulus).digest()

    @property
    def debug(self) -> bool:
        """Whether a debugger may look into the enclave."""
        return Attributes.DEBUG in self._flags(self.attributes)

    def unsigned(self) -> Sigstruct:
        """The same without key and signature."""
        return replace(self, modulus=_NONE, signature=_NONE, q1=_NONE, q2=_NONE)

    def with_signature(self, modulus: int, signature: bytes) -> Sigstruct:
        """The same with a key and its signature over `to_sign`, which is found to hold.

        Args:
            modulus: Of the key.
            signature: RSA, PKCS#1 v1.5, SHA-256; 384 bytes, big-endian as everywhere but here.

        Raises:
            InvalidRequest: Reason `sigstruct.malformed` for a key of another size, `sigstruct.forged` otherwise.
        """
        if modulus.bit_length() != KEY_BYTES * 8:
            raise _malformed(f"the key has {modulus.bit_length()} bits, and SGX takes 3072")
        number = int.from_bytes(signature, "big")
        if len(signature) != KEY_BYTES or number >= modulus:
            raise _forged()
        q1, q2 = _quotients(number, modulus)
        made = replace(self, modulus=_little(modulus), signature=_little(number), q1=_little(q1), q2=_little(q2))
        made.verify()
        return made

    def verify(self) -> None:
        """Check signature and quotients, as EINIT does.

        Raises:
            InvalidRequest: Reason `sigstruct.unsigned` or `sigstruct.forged`.
        """
        if not self.signed:
            raise InvalidRequest("the SIGSTRUCT is not signed", reason="sigstruct.unsigned")
        modulus, signature = int.from_bytes(self.modulus, "little"), int.from_bytes(self.signature, "little")
        if modulus.bit_length() != KEY_BYTES * 8 or signature >= modulus:
            raise _forged()
        key = RSAPublicNumbers(EXPONENT, modulus).public_key()
        try:
            key.verify(self.signature[::-1], self.to_sign, PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise _forged() from None
        if (self.q1, self.q2) != tuple(map(_little, _quotients(signature, modulus))):
            raise _forged()

    def check_production(self) -> None:
        """Check that nobody can look in, and that the loader cannot choose otherwise: what is masked must be as said.

        Raises:
            InvalidRequest: Reason `enclave.open`.
        """
        if self._flags(self.attributes) & _UNWANTED or self._flags(self.attributemask) & _UNWANTED != _UNWANTED:
            raise InvalidRequest(
                "its attributes let a debugger in, or ask for keys of the platform, or leave that to whoever starts it",
                reason="enclave.open",
            )

    @staticmethod
    def _flags(attributes: bytes) -> Attributes:
        return Attributes(int.from_bytes(attributes[:8], "little") & sum(Attributes))


def _quotients(signature: int, modulus: int) -> tuple[int, int]:
    """Q1 and Q2, by which the processor cubes the signature without dividing."""
    q1, remainder = divmod(signature * signature, modulus)
    return q1, remainder * signature // modulus


def _little(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "little")


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"no SIGSTRUCT: {what}", reason="sigstruct.malformed")


def _forged() -> InvalidRequest:
    return InvalidRequest("the signature of the SIGSTRUCT does not hold", reason="sigstruct.forged")
