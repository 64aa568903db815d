"""Keys that sign enclaves: RSA with 3072 bits and exponent 3, as SGX wants them, from a file or made for one use."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from cloister.enclave.sigstruct import EXPONENT, KEY_BYTES
from cloister.errors import InvalidRequest
from cloister.rpc.files import read_private, read_public

_KEY_BITS: Final = KEY_BYTES * 8


class Signer(Protocol):
    """Who signs enclaves."""

    @property
    def modulus(self) -> int:
        """Of its key, 3072 bits; the exponent is 3."""

    def sign(self, message: bytes) -> bytes:
        """RSA, PKCS#1 v1.5, SHA-256: 384 bytes, big-endian."""


class KeySigner:
    """A signer with a key in memory."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key

    @property
    def modulus(self) -> int:
        """See `Signer`."""
        return self._key.public_key().public_numbers().n

    def sign(self, message: bytes) -> bytes:
        """See `Signer`."""
        return self._key.sign(message, PKCS1v15(), hashes.SHA256())

    def private_pem(self) -> bytes:
        """The key itself, unencrypted: for a program that takes files only."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )


def new_key() -> KeySigner:
    """A key that nobody else has."""
    return KeySigner(rsa.generate_private_key(public_exponent=EXPONENT, key_size=_KEY_BITS))


def key_in(path: Path) -> KeySigner:
    """The key in a PEM file that only we may read.

    Raises:
        NotReady: It cannot be read, or is open to others.
        InvalidRequest: Reason `signer.malformed`: no such key, or one with a passphrase.
    """
    raw = read_private(path)
    try:
        key = serialization.load_pem_private_key(raw, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise unusable(f"{path} is no private key in PEM, without a passphrase") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise unusable(f"{path} is no RSA key")
    check_key(key.public_key().public_numbers(), str(path))
    return KeySigner(key)


def public_key_in(path: Path) -> int:
    """The modulus of the public key in a PEM file; raises NotReady and InvalidRequest as `key_in` does."""
    raw = read_public(path)
    try:
        key = serialization.load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise unusable(f"{path} is no public key in PEM") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise unusable(f"{path} is no RSA key")
    numbers = key.public_numbers()
    check_key(numbers, str(path))
    return numbers.n


def check_key(numbers: rsa.RSAPublicNumbers, name: str) -> None:
    """Check that SGX takes a key; raises InvalidRequest (`signer.malformed`)."""
    if numbers.n.bit_length() != _KEY_BITS or numbers.e != EXPONENT:
        raise unusable(
            f"{name} is an RSA key of {numbers.n.bit_length()} bits with exponent {numbers.e}, and SGX takes 3072 bits "
            "with exponent 3: 'openssl genrsa -3 3072' makes one"
        )


def unusable(message: str) -> InvalidRequest:
    """Return the error for a key that cannot sign enclaves; the caller raises it."""
    return InvalidRequest(message, reason="signer.malformed")
