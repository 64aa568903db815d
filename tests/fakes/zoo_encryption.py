"""Files as Analytics Zoo and BigDL PPML encrypted them, for models that no recorded bytes hold."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from functools import cache

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET, SALT = "analytics-zoo", "intel-analytics"
DATA_KEY = base64.b64encode(bytes(range(32))).decode()
SCHEMES = ("AESCBC with 256 bits", "AESCBC with 128 bits", "AES256", "AESGCM with 256 bits", "AESGCM with 128 bits")


def as_their_jvm(plain: bytes) -> bytes:
    """Bytes that were taken for Latin-1 and written as UTF-8."""
    return plain.decode("latin-1").encode()


def encrypted(plain: bytes, scheme: str, *, block: int = 16, secret: str = SECRET) -> bytes:
    """A file of one of `SCHEMES`, padded to `block` where that is done."""
    key = _key(secret)[: 16 if "128" in scheme else 32]
    if "GCM" in scheme:
        iv = os.urandom(12)
        return base64.b64encode(iv + AESGCM(key).encrypt(iv, plain, None))
    iv = bytes(16) if scheme == "AES256" else os.urandom(16)
    ciphertext = _cbc(key, iv, plain, block)
    return base64.b64encode(ciphertext if scheme == "AES256" else iv + ciphertext)


def in_container(plain: bytes) -> bytes:
    """A file of BigDL's "common" form, as it lies on a disk."""
    text, wrapped, iv = DATA_KEY.encode(), b"d3JhcHBlZA==", os.urandom(16)
    ciphertext = _cbc(text[16:32], iv, plain, 16)
    header = len(wrapped).to_bytes(4, "big") + (16).to_bytes(4, "big") + wrapped + iv
    return header.ljust(400, b"\x80") + ciphertext + hmac.digest(text[:16], ciphertext, "sha256")


def natively(plain: bytes) -> bytes:
    """A file of BigDL's "nativeaescbc" form, as it lies on a disk."""
    iv = os.urandom(16)
    return iv + _cbc(base64.b64decode(DATA_KEY), iv, plain, 16)


@cache
def _key(secret: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), SALT.encode(), 65_536)


def _cbc(key: bytes, iv: bytes, plain: bytes, block: int) -> bytes:
    padding = block - len(plain) % block
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(plain + bytes([padding]) * padding) + encryptor.finalize()
