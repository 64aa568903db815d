"""How Analytics Zoo and BigDL PPML encrypted files, undone. Pure: bytes in, bytes out.

Keys come from a secret and a salt (PBKDF2-HMAC-SHA256, RFC 8018, 65 536 iterations; the shorter key is the beginning of
the longer), or are a data key of BigDL's key management. Most layouts have no integrity: wrong padding is all that
tells of a wrong key, and one wrong key in 255 passes it. Whoever opens a file here must look at what comes out.

| scheme                    | content, after base64                                       | key       |
|---------------------------|-------------------------------------------------------------|-----------|
| AESCBC                    | IV (16) ‖ AES-CBC                                           | 256, 128  |
| AES256                    | AES-CBC under an IV of zeros                                | 256       |
| AESGCM                    | IV (12) ‖ AES-GCM ‖ tag (16)                                | 256, 128  |
| BigDL's container         | header (400) ‖ AES-128-CBC ‖ HMAC-SHA256 of the ciphertext  | data key  |
| BigDL's nativeaescbc      | IV (16) ‖ AES-CBC                                           | data key  |
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from cloister.errors import InvalidRequest, SealBroken
from cloister.seal.keys import Secret

ITERATIONS: Final = 65_536
_BLOCK_BYTES: Final = 16
_GCM_IV_BYTES: Final = 12
_TAG_BYTES: Final = 16
_MOST_PADDING: Final = 32  # their Python tool pads to 32 bytes under a key of 256 bits
_HEADER_BYTES: Final = 400
_HEADER_FILL: Final = 0x80
_MAC_BYTES: Final = 32
_TEXT_KEY_CHARACTERS: Final = 16
_AES_KEY_BYTES: Final = (16, 24, 32)


class Scheme(NamedTuple):
    """One way in which a file can have been encrypted, with its key.

    Attributes:
        name: For people.
        decrypt: Content to plaintext, in memory of its own; raises SealBroken for what it does not fit.
    """

    name: str
    decrypt: Callable[[memoryview], bytearray]


def schemes_of_secret(secret: Secret, salt: Secret) -> Sequence[Scheme]:
    """Analytics Zoo's schemes under a secret and a salt, both UTF-8, in the order in which they are tried."""
    key = PBKDF2HMAC(algorithm=SHA256(), length=32, salt=salt.reveal(), iterations=ITERATIONS).derive(secret.view)
    zeros = memoryview(bytes(_BLOCK_BYTES))
    return (
        Scheme("AESCBC with 256 bits", lambda content: _with_iv(key, content)),
        Scheme("AESCBC with 128 bits", lambda content: _with_iv(key[:16], content)),
        Scheme("AES256", lambda content: _cbc(key, zeros, content)),
        Scheme("AESGCM with 256 bits", lambda content: _gcm(key, content)),
        Scheme("AESGCM with 128 bits", lambda content: _gcm(key[:16], content)),
    )


def schemes_of_data_key(text: Secret) -> Sequence[Scheme]:
    """BigDL PPML's schemes under a data key.

    Args:
        text: The data key in base64, as its key management gave it out: one of its layouts takes keys from the text.

    Raises:
        InvalidRequest: It is not base64 of an AES key (`data_key.malformed`).
    """
    try:
        key = binascii.a2b_base64(text.view, strict_mode=True)
    except binascii.Error:
        key = b""
    if len(key) not in _AES_KEY_BYTES:
        raise InvalidRequest(
            "a data key is 16, 24 or 32 bytes in one line of base64, as BigDL's key management gave it",
            reason="data_key.malformed",
        )
    return (
        Scheme("BigDL's container", lambda content: _container(text.reveal(), content)),
        Scheme("BigDL's nativeaescbc", lambda content: _with_iv(key, content)),
    )


def content_of(file: memoryview) -> memoryview:
    """What a file holds: a line of base64, or the bytes themselves."""
    try:
        return memoryview(binascii.a2b_base64(bytes(file).rstrip(b"\r\n"), strict_mode=True))
    except binascii.Error:
        return file


def _with_iv(key: bytes, content: memoryview) -> bytearray:
    return _cbc(key, content[:_BLOCK_BYTES], content[_BLOCK_BYTES:])


def _cbc(key: bytes, iv: memoryview, ciphertext: memoryview) -> bytearray:
    if len(iv) != _BLOCK_BYTES or not ciphertext or len(ciphertext) % _BLOCK_BYTES:
        raise SealBroken
    # CBC and its padding are theirs, and their files are why this is here.
    decryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(iv))).decryptor()
    plain = bytearray(len(ciphertext) + _BLOCK_BYTES - 1)  # as much as the cipher asks for
    decryptor.update_into(ciphertext, plain)
    decryptor.finalize()
    padding = plain[len(ciphertext) - 1]
    end = len(ciphertext) - padding
    if not 1 <= padding <= _MOST_PADDING or end < 0 or plain[end : len(ciphertext)] != bytes([padding]) * padding:
        plain[:] = bytes(len(plain))
        raise SealBroken
    del plain[end:]
    return plain


def _gcm(key: bytes, content: memoryview) -> bytearray:
    iv, ciphertext, tag = content[:_GCM_IV_BYTES], content[_GCM_IV_BYTES:-_TAG_BYTES], content[-_TAG_BYTES:]
    if len(content) <= _GCM_IV_BYTES + _TAG_BYTES:
        raise SealBroken
    decryptor = Cipher(algorithms.AES(key), modes.GCM(bytes(iv), bytes(tag))).decryptor()
    plain = bytearray(len(ciphertext) + _BLOCK_BYTES - 1)
    decryptor.update_into(ciphertext, plain)
    try:
        decryptor.finalize()
    except InvalidTag:
        plain[:] = bytes(len(plain))
        raise SealBroken from None
    del plain[len(ciphertext) :]
    return plain


def _container(text: bytes, content: memoryview) -> bytearray:
    """Header: length of the wrapped data key (4) ‖ 16 (4) ‖ wrapped data key ‖ IV (16) ‖ fill."""
    header, ciphertext, mac = content[:_HEADER_BYTES], content[_HEADER_BYTES:-_MAC_BYTES], content[-_MAC_BYTES:]
    if len(content) < _HEADER_BYTES + _MAC_BYTES or int.from_bytes(header[4:8], "big") != _BLOCK_BYTES:
        raise SealBroken
    begin = 8 + int.from_bytes(header[:4], "big")
    iv, fill = header[begin : begin + _BLOCK_BYTES], header[begin + _BLOCK_BYTES :]
    if any(each != _HEADER_FILL for each in fill):
        raise SealBroken
    keys = text[: 2 * _TEXT_KEY_CHARACTERS].ljust(2 * _TEXT_KEY_CHARACTERS, b"\0")
    mac_key, key = keys[:_TEXT_KEY_CHARACTERS], keys[_TEXT_KEY_CHARACTERS:]
    if not hmac.compare_digest(hmac.digest(mac_key, ciphertext, hashlib.sha256), mac):
        raise SealBroken
    return _cbc(key, iv, ciphertext)
